//! In front of a redis-server: this server, in this process, passes the requests of its clients on to it. There is no stream from the source
//! here: what it has applied is set by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

#[path = "../common/certificates.rs"]
mod certificates;
mod classes;
mod flip;
mod harness;
mod loss;
