//! The Ottla consumer.
