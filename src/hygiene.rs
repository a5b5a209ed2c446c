//! Keeps private keys where they belong.
//!
//! Our own buffers are wiped when they are dropped. What gRPC C-core and the kernel's socket hold of
//! a message for a moment is beyond our reach.

use nix::sys::resource::{Resource, setrlimit};

/// Without core dumps, a crash writes no key to disk. (A handler that the host pipes dumps to is
/// told the limit, and is trusted to honour it.)
///
/// `PR_SET_DUMPABLE` would do more, too much: it hides `/proc/PID/exe` from an agent without
/// CAP_SYS_PTRACE, and attestation by path or checksum would fail.
pub fn forbid_core_dumps() {
    if let Err(cause) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        log::warn!("core dumps could not be turned off: {}", cause.desc());
    }
}
