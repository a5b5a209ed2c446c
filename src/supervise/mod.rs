//! The application as our child: started when every file is published and valid, notified of rotations,
//! stopped. Its exit code becomes ours.
//!
//! The caller hands in the time, the signals and the ends of children.

mod application;
mod lifecycle;
#[cfg(test)]
mod tests;

pub(crate) use application::{Application, Settings};
pub(crate) use lifecycle::OnRenewal;
