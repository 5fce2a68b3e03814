//! Tests of the client connection against an HTTP/2 server in the test.
