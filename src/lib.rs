//! `pod-svid-helper` turns a SPIFFE identity into files: it fetches a pod's SVIDs from the SPIFFE
//! Workload API and keeps certificate, key, trust bundles and tokens on disk, always complete,
//! always matching, always fresh.
//!
//! # The way of the data
//!
//! ```text
//! arguments, environment ──► options ──► a plan: what to fetch, what to write, what to notify
//!                                          │
//! Workload API ──► workload_api ──► material ──► items ──► store ──► notify
//!   (socket)         one RPC        checked      what is    one        supervise
//!                                   files        wanted     atomic set
//!                                                   └──► one verdict ──► http, metrics, systemd
//! ```
//!
//! Data moves in one direction: a source *returns* what it has learned. To follow a response from the
//! socket to the rename, read five functions:
//!
//! 1. `material::call::RetriedCall::poll` receives it;
//! 2. `material::x509::X509Source::take` checks it, and returns an `Update` with its files;
//! 3. `mode::items::Items::apply` takes the update, and schedules a publication;
//! 4. `mode::items::Items::publish_due` publishes all changes, when that is due;
//! 5. `store::Store::publish` (in `store/publish.rs`) writes the files, and renames the link `..data`.
//!
//! `mode::main_loop::MainLoop::run` is the loop around them. One function says whether a set is
//! good now: `material::verdict::fault`. Everything else asks it.
//!
//! # Where things are
//!
//! Each module imports only modules below it in this table, and no two files import each other in a
//! circle. A test (`tests/specification/house.rs`) reads the table.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `for_tests` | internals for the tests; all parsers, for `tests/fuzz` |
//! | `options` | flags and variables, all from one table; the plan that they come to |
//! | `mode` | the one loop of `init`, `refresh` and `run`; `check` (the files); `inspect` and `token` (ask the agent) |
//! | `metrics` | counts and facts for Prometheus |
//! | `systemd` | READY, STATUS, WATCHDOG and STOPPING, where systemd asks for them |
//! | `supervise` | the application as our child: started, notified of rotations, stopped |
//! | `notify` | after each publication: signals to other processes, a hook |
//! | `material` | each kind of material in a file: its names, its files, its RPC; the verdict |
//! | `layout` | names that may clash; PEM, PKCS#12 and the SPIFFE bundle map |
//! | `store` | a directory: publishes a set of files as one, reads it. Knows only names and bytes |
//! | `workload_api` | addresses, connections, one RPC |
//! | `identity` | SPIFFE IDs, certificates, keys, bundles, tokens: checked by the standards |
//! | `http` | answers requests for `/live`, `/ready` and `/metrics` |
//! | `wait` | the one place where the program waits: for gRPC, a deadline, a signal, a child |
//! | `process` | signals, children, facts about other processes; no keys in core dumps |
//! | `logging` | log lines as text or JSON, and reminders of a lasting state |
//! | `last_resort` | ends the process where gRPC would not let it end |
//! | `time` | the time, handed in; every delay with its reason; delays that double; RFC 3339 |
//! | `words`, `regular_file` | sentences, enumerations of words, words in lines; files that an option names |
//!
//! The program is synchronous: one thread does everything, and waits in `wait::Waiter` alone. (Only `check`,
//! which follows nothing, sleeps between its looks at names.)
//! (gRPC C-core has threads of its own.) Code that decides by time takes a `time::clock::Now`.
//!
//! # How to change it
//!
//! - **Build, test, measure**: `make lint`, `make test`, `make e2e`, `make bench`. The tests in
//!   `tests/specification` run the binary against a real Workload API server. Logic that depends on
//!   time has unit tests beside the code, on a clock of their own.
//! - **An option**: add a row to `options/table.rs`. The type of its value lives in the module that uses
//!   it, and is listed in `options/value.rs`. `options/plan.rs` hands the value over.
//!   `options/combinations.rs` refuses senseless combinations. `--help` follows; copy it to README.md
//!   (a test compares them).
//! - **A file of the X.509-SVID**: add a field to `X509Part` in `material/x509_part.rs`, with its name in
//!   `given_names` and its permissions in `mode_of` (both in `material/x509.rs`). Write it in `material/x509_files.rs`, and read it back, for
//!   `check`, in `material/x509_read.rs`. An option sets the field in `options/plan.rs`.
//! - **A kind of material that is fetched on its own**: one file in `material/` with a `Part` and its `Source`
//!   (`material/part.rs` has both traits),
//!   and one row where `options/plan.rs` makes the parts.

#![deny(unreachable_pub)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod http;
mod identity;
mod last_resort;
mod layout;
mod logging;
mod material;
mod metrics;
mod mode;
mod notify;
mod options;
mod process;
mod program;
mod regular_file;
mod store;
mod supervise;
mod systemd;
mod time;
mod wait;
mod words;
mod workload_api;

pub use program::run;

/// Internals for the tests: the messages of the Workload API, the limits, and the table of options.
#[doc(hidden)]
pub mod for_tests {
    pub mod parsers;

    pub use crate::identity::limits::{MAX_BUNDLE, MAX_CHAIN, MAX_SVIDS};
    pub use crate::options::row::Row;
    pub use crate::options::table::TABLE;
    pub use crate::workload_api::limits::MAX_MESSAGE_MIB;
    pub use crate::workload_api::proto::workload;
}
