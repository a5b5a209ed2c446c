//! `pod-svid-helper` turns a SPIFFE identity into files: it fetches a pod's SVIDs from the SPIFFE
//! Workload API and keeps certificate, key, trust bundles and tokens on disk, always complete,
//! always matching, always fresh.
//!
//! # The way of the data
//!
//! ```text
//! arguments, environment ──► options ──► mode: init, refresh, check, inspect
//!                                          │
//! Workload API ──► workload_api ──► identity ──► store ──► files ──► notify
//!                  calls, retries    checks       one       │        signal, command
//!                                                atomic set └──────► health
//! ```
//!
//! [`workload_api`] knows nothing of files, [`identity`] nothing of gRPC, [`store`] nothing of
//! X.509, [`notify`] and [`health`] nothing of what the files are; only a [`mode`] knows them all.
//!
//! # Where things are
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`options`] | flags and variables, all from one table; which make no sense together |
//! | [`mode`] | `init` (once), `refresh` (for as long as it runs), `check` (the files), `inspect` (the agent) |
//! | `mode::part` | the parts of the published set: X.509, each JWT-SVID, the JWT bundles |
//! | [`workload_api`] | addresses, connections, the calls and their responses, when to call again |
//! | [`identity`] | SPIFFE IDs, certificates, keys, bundles, tokens: what is good by the standards |
//! | [`store`] | file names and modes, PEM, the atomic publication of a set |
//! | [`notify`] | signals and commands that tell an application of new files |
//! | [`health`] | the gRPC health protocol |
//! | [`wait`] | the one place where the program waits: for gRPC, a deadline, a signal, a child |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`logging`] | log lines as text or JSON, and when a lasting state is repeated |
//! | [`hygiene`] | keeps keys out of core dumps |
//! | [`timestamp`] | RFC 3339, and time spans in words |
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
