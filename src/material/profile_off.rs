//! A profile that the agent has turned off: when to ask again.

use std::time::Instant;

use crate::time::timing::LOOK_AT_FILES;
use crate::workload_api::endpoint::{Endpoint, SocketFile};

/// The agent has an RPC's profile turned off, and no clock makes the next call (SPIFFE Workload API standard,
/// section 7). A new agent may have the profile: it has a new socket.
pub(super) struct ProfileOff {
    socket: Option<SocketFile>,
    /// When to look at the socket again.
    pub(super) look_at: Instant,
}

impl ProfileOff {
    pub(super) fn new(endpoint: &Endpoint, now: Instant) -> Self {
        Self { socket: endpoint.socket_file(), look_at: now + LOOK_AT_FILES }
    }

    /// What comes next, for the end of a log line.
    pub(super) fn next_step(&self) -> &'static str {
        match self.socket {
            Some(_) => "; asking again after the agent has restarted",
            // Without a socket file, only the end of another call shows that.
            None => {
                "; asking again after another call to the agent has ended, or after a restart of this helper"
            }
        }
    }

    /// Looks at the socket, once `look_at` has come (the caller sees to that), and sets the time of the next look.
    /// Returns whether there is a new socket. A path without a socket has no new one.
    pub(super) fn look_for_new_socket(&mut self, endpoint: &Endpoint, now: Instant) -> bool {
        self.look_at = now + LOOK_AT_FILES;
        let socket = endpoint.socket_file();
        socket.is_some() && socket != self.socket
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_profile_that_is_off_is_asked_for_again_once_the_socket_is_another_and_never_by_the_clock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let _first = UnixListener::bind(&path).unwrap();
        let (endpoint, mut now) = (Endpoint::Unix(path.clone()), Instant::now());
        let mut off = ProfileOff::new(&endpoint, now);
        let mut minutes = |off: &mut ProfileOff, number| {
            (0..number).any(|_| {
                now += LOOK_AT_FILES;
                off.look_for_new_socket(&endpoint, now)
            })
        };
        assert_eq!(off.next_step(), "; asking again after the agent has restarted");
        assert!(!minutes(&mut off, 600));
        // The old one lives on elsewhere: its number is not given away.
        std::fs::rename(&path, directory.path().join("old.sock")).unwrap();
        assert!(!minutes(&mut off, 10), "there is none");
        let _second = UnixListener::bind(&path).unwrap();
        assert!(minutes(&mut off, 1));
    }

    #[test]
    fn over_tcp_no_restart_of_the_agent_is_promised_to_be_seen() {
        let off = ProfileOff::new(&Endpoint::Tcp("127.0.0.1:1".parse().unwrap()), Instant::now());
        assert!(off.next_step().starts_with("; asking again after another call"));
    }
}
