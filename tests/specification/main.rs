//! What the program does, seen from outside: the binary, against a real Workload API server.
//!
//! Every test has a pod of its own ([`pod::Pod`]): a directory with the agent's socket and the
//! volume for the files. Tests wait for events, never for a time; [`pod::PATIENCE`] only bounds
//! how long a broken program can hold them up.

mod bundles;
mod check;
mod endpoints;
mod health;
mod init;
mod inspect;
mod jwt;
mod layouts;
mod logs;
mod migration;
mod notification;
mod options;
mod pod;
mod publication;
mod refresh;
mod responses;
mod selection;
mod signals;

#[path = "../workload_api_server/mod.rs"]
mod workload_api_server;
