//! What the program does, seen from outside: the binary, against a real Workload API server.
//!
//! Every test has a pod of its own ([`pod::Pod`]): a directory with the agent's socket and the
//! volume for the files. Tests wait for events, never for a time; [`pod::PATIENCE`] only bounds
//! how long a broken program can hold them up.

mod after_half_a_minute;
mod application;
mod application_signals;
mod besieged;
mod budgets;
mod bundle_map;
mod bundles;
mod c_core;
mod check;
mod check_trust;
mod crl;
mod endpoints;
mod filesystems;
mod hook;
mod hostile_agent;
mod hostile_frames;
mod house;
mod http;
mod init;
mod init_hook;
mod inspect;
mod jwt;
mod keystores;
mod layouts;
mod limits;
mod logs;
mod manners;
mod metrics;
mod migration;
mod mounts;
mod neighbours;
mod notification;
mod old_systems;
mod options;
mod owed_signals;
mod pod;
mod process;
mod process_name;
mod protected_symlinks;
mod publication;
mod refresh;
mod responses;
mod selection;
mod signals;
mod token;
mod upgrades;
mod volumes;
mod wit;

#[path = "../faults/mod.rs"]
mod faults;
#[path = "../fuzz/mod.rs"]
mod fuzz;
#[path = "../soak/mod.rs"]
mod soak;
