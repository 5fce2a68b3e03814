//! The Ottla producer.
