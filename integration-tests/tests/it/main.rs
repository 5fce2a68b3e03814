//! Integration tests against real processes.
