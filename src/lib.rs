//! `pod-svid-helper` turns a SPIFFE identity into files: it fetches a pod's X.509-SVID from the
//! SPIFFE Workload API and keeps certificate, key and trust bundle on disk, always complete,
//! always matching, always fresh.
//!
//! # The way of the data
//!
//! ```text
//! arguments, environment ──► options ──► mode: init, refresh
//!                                          │
//! Workload API ──► workload_api ──► identity ──► store ──► files
//!                  calls, retries    checks       one atomic set
//! ```
//!
//! [`workload_api`] knows nothing of files, [`identity`] nothing of gRPC, [`store`] nothing of
//! X.509; only a [`mode`] knows them all.
//!
//! # Where things are
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`options`] | flags and variables, all from one table |
//! | [`mode`] | `init` (once) and `refresh` (for as long as it runs) |
//! | [`workload_api`] | addresses, connections, the call and its stream, when to call again |
//! | [`identity`] | SPIFFE IDs, certificates, keys, bundles: what is good by the standards |
//! | [`store`] | file names and modes, PEM, the atomic publication of a set |
//! | [`wait`] | the one place where the program waits: for gRPC, a deadline or a signal |
//! | [`logging`] | log lines as text or JSON, and when a lasting state is repeated |
//! | [`hygiene`] | keeps keys out of core dumps |
//! | [`timestamp`] | RFC 3339 |
//!
//! The program is synchronous: one thread does everything, and waits in [`wait::Waiter`] alone.
//! (gRPC C-core has threads of its own.) It is tested from outside, against a real Workload API
//! server, in `tests/`.

#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backoff;
pub mod health;
pub mod hygiene;
pub mod identity;
pub mod logging;
pub mod mode;
pub mod notify;
pub mod options;
pub mod store;
pub mod timestamp;
pub mod wait;
pub mod workload_api;
