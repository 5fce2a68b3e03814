//! Tests of the log on a disk that can be broken.
