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

    /// Looks at the socket. Returns whether it is another one.
    pub(super) fn is_over(&mut self, endpoint: &Endpoint, now: Instant) -> bool {
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
                off.is_over(&endpoint, now)
            })
        };
        assert!(!minutes(&mut off, 600));
        // The old one lives on elsewhere: its number is not given away.
        std::fs::rename(&path, directory.path().join("old.sock")).unwrap();
        assert!(!minutes(&mut off, 10), "there is none");
        let _second = UnixListener::bind(&path).unwrap();
        assert!(minutes(&mut off, 1));
    }
}
