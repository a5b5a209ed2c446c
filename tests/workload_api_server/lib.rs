//! A Workload API for the tests, the benchmark and the demo.
//!
//! It is a real gRPC server that mints real certificates; what it says, and when, is up to the
//! test. `cargo run --release --example workload-api-server -- --help` starts it by hand.

pub mod authority;
pub mod fault;
pub mod frames;
pub mod raw;
pub mod server;
pub mod wit;
