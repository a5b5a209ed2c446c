//! HTTP for probes and Prometheus: `/live`, `/ready`, `/metrics`.
//!
//! The main loop itself serves, so an answer to `/live` proves that the loop turns. The work of a turn
//! is bounded: clients can neither hold up a rotation nor take the descriptors and the memory that it
//! needs. A connection gets one answer.

mod connection;
mod request;
mod server;

pub(crate) use request::{NotReady, Question, Readiness, answer};
pub(crate) use server::HttpServer;
