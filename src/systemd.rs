//! Notifies systemd (sd_notify(3)): ready, a status line, the watchdog, stopping.
//!
//! Without NOTIFY_SOCKET in the environment, it sends nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};

use crate::logging::{Printable, shortened};
use crate::time::timing::NOTIFY_AGAIN;

/// systemd drops a message of more than 4096 bytes (PIPE_BUF).
const LONGEST_STATUS: usize = 2000;

/// The connection to systemd, if it wants one.
pub(crate) struct Systemd {
    notify: Option<(OwnedFd, UnixAddr)>,
    watchdog: Option<Watchdog>,
    /// The status that systemd has.
    status: Option<String>,
    is_ready: bool,
    /// When the state is sent that systemd had no room for.
    state_again_at: Option<Instant>,
}

struct Watchdog {
    /// Half of the time after which systemd takes the loop for dead, as sd_watchdog_enabled(3)
    /// advises.
    interval: Duration,
    due_at: Instant,
}

impl Systemd {
    /// By the environment; `variable` looks a variable up.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<OsString>, now: Instant) -> Self {
        let address = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let notify = address.and_then(|name| match open(&name) {
            Ok(notify) => Some(notify),
            Err(cause) => {
                log::warn!(
                    "cannot notify systemd at NOTIFY_SOCKET={}: {}",
                    Printable(name.display()),
                    cause.desc()
                );
                None
            }
        });
        let is_for_us = variable("WATCHDOG_PID").is_none_or(|pid| pid == *std::process::id().to_string());
        let interval = variable("WATCHDOG_USEC")
            .filter(|_| notify.is_some() && is_for_us)
            .and_then(|text| text.to_str()?.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(|microseconds: u64| Duration::from_micros(microseconds) / 2);
        let watchdog = interval.map(|interval| Watchdog { interval, due_at: now });
        Self { notify, watchdog, status: None, is_ready: false, state_again_at: None }
    }

    /// Sends READY=1 when everything is published for the first time, and STATUS at each change.
    /// `ready` fails with the reason why something is missing; `published` describes a whole set.
    pub(crate) fn state(
        &mut self,
        ready: Result<(), String>,
        published: impl FnOnce() -> String,
        now: Instant,
    ) {
        if self.notify.is_none() || self.state_again_at.is_some_and(|at| now < at) {
            return;
        }
        let is_first = ready.is_ok() && !self.is_ready;
        let status = ready.map_or_else(|reason| reason, |()| published());
        // A line feed would begin another assignment.
        let status = shortened(&Printable(status).to_string(), LONGEST_STATUS);
        self.state_again_at = None;
        if !is_first && self.status.as_ref() == Some(&status) {
            return;
        }
        let ready = if is_first { "READY=1\n" } else { "" };
        match self.send(&format!("{ready}STATUS={status}")) {
            Sent::Taken => {
                self.is_ready |= is_first;
                self.status = Some(status);
            }
            Sent::NoRoom => self.state_again_at = Some(now + NOTIFY_AGAIN),
        }
    }

    /// Sends WATCHDOG=1 when that is due: the loop turns.
    pub(crate) fn run_due(&mut self, now: Instant) {
        if self.watchdog.as_ref().is_none_or(|watchdog| watchdog.due_at > now) {
            return;
        }
        let sent = self.send("WATCHDOG=1");
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.due_at = now
                + match sent {
                    Sent::Taken => watchdog.interval,
                    Sent::NoRoom => watchdog.interval.min(NOTIFY_AGAIN),
                };
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.due_at);
        watchdog.into_iter().chain(self.state_again_at).min()
    }

    /// Sends STOPPING=1.
    pub(crate) fn stopping(&self) {
        let _ = self.send("STOPPING=1");
    }

    /// Never waits. Where nobody listens, a message is taken: to repeat it brings nothing.
    fn send(&self, message: &str) -> Sent {
        let Some((socket, address)) = &self.notify else { return Sent::Taken };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match sendto(socket.as_raw_fd(), message.as_bytes(), address, flags) {
            Err(Errno::EAGAIN | Errno::ENOBUFS) => Sent::NoRoom,
            Err(cause) => {
                log::debug!("cannot notify systemd: {}", cause.desc());
                Sent::Taken
            }
            Ok(_) => Sent::Taken,
        }
    }
}

/// What becomes of a message. systemd's queue is short, and full while a machine starts.
enum Sent {
    Taken,
    NoRoom,
}

/// A path, or with a leading `@` a name in the abstract namespace.
fn open(name: &OsStr) -> nix::Result<(OwnedFd, UnixAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        path => UnixAddr::new(path)?,
    };
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    /// systemd's socket, in the abstract namespace, and the environment that it sets.
    fn systemd(name: &str) -> (UnixDatagram, impl Fn(&str) -> Option<OsString>) {
        let name = format!("pod-svid-helper-test-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let variable = move |variable: &str| match variable {
            "NOTIFY_SOCKET" => Some(format!("@{name}").into()),
            "WATCHDOG_USEC" => Some("20000000".into()),
            _ => None,
        };
        (socket, variable)
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn ready_is_sent_once_and_the_status_at_each_change() {
        let (socket, variable) = systemd("ready");
        let mut systemd = Systemd::new(variable, Instant::now());
        let published = || "published".to_owned();
        for (state, message) in [
            (Err("not\nyet"), Some("STATUS=not\\nyet")),
            (Err("not\nyet"), None),
            (Ok(()), Some("READY=1\nSTATUS=published")),
            (Err("expired"), Some("STATUS=expired")),
            (Ok(()), Some("STATUS=published")),
        ] {
            systemd.state(state.map_err(str::to_owned), published, Instant::now());
            assert_eq!(received(&socket).as_deref(), message);
        }
        systemd.state(Ok(()), || "another identity".to_owned(), Instant::now());
        assert_eq!(received(&socket).as_deref(), Some("STATUS=another identity"));
        systemd.stopping();
        assert_eq!(received(&socket).as_deref(), Some("STOPPING=1"));
    }

    #[test]
    fn a_long_reason_is_cut_so_that_systemd_takes_it() {
        let (socket, variable) = systemd("long");
        let mut systemd = Systemd::new(variable, Instant::now());
        systemd.state(Err("\n".repeat(10_000)), || unreachable!("it is not ready"), Instant::now());
        let status = received(&socket).unwrap();
        assert!(status.starts_with("STATUS=\\n") && status.ends_with(" ... (20000 bytes)"), "{status}");
        assert!(status.len() < 4096);
    }

    #[test]
    fn the_watchdog_is_notified_at_half_of_its_interval() {
        let (socket, variable) = systemd("watchdog");
        let now = Instant::now();
        let mut systemd = Systemd::new(variable, now);
        let seconds = (0..=25).filter(|second| {
            systemd.run_due(now + Duration::from_secs(*second));
            received(&socket).is_some_and(|message| message == "WATCHDOG=1")
        });
        assert_eq!(seconds.collect::<Vec<_>>(), [0, 10, 20]);
        assert_eq!(systemd.next_deadline(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn what_systemd_has_no_room_for_is_sent_again_a_second_later() {
        let (socket, variable) = systemd("full");
        let now = Instant::now();
        let mut systemd = Systemd::new(variable, now);
        while matches!(systemd.send("STATUS=of another service"), Sent::Taken) {}
        systemd.run_due(now);
        systemd.state(Ok(()), || "published".to_owned(), now);
        assert_eq!(systemd.next_deadline(), Some(now + NOTIFY_AGAIN));
        while received(&socket).is_some() {}
        systemd.state(Ok(()), || "published".to_owned(), now);
        assert_eq!(received(&socket), None, "it was just full");
        systemd.run_due(now + NOTIFY_AGAIN);
        assert_eq!(received(&socket).as_deref(), Some("WATCHDOG=1"));
        systemd.state(Ok(()), || "published".to_owned(), now + NOTIFY_AGAIN);
        assert_eq!(received(&socket).as_deref(), Some("READY=1\nSTATUS=published"));
        assert_eq!(systemd.next_deadline(), Some(now + NOTIFY_AGAIN + Duration::from_secs(10)));
    }

    #[test]
    fn without_a_socket_nothing_is_sent_and_nothing_is_due() {
        let mut systemd =
            Systemd::new(|name| (name == "WATCHDOG_USEC").then(|| "1000".into()), Instant::now());
        systemd.state(Ok(()), || unreachable!("nobody listens"), Instant::now());
        systemd.run_due(Instant::now());
        systemd.stopping();
        assert_eq!(systemd.next_deadline(), None);
    }
}
