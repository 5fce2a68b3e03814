//! Producers and consumers that record what they see, for the checker.
