//! Keeps private keys where they belong.
//!
//! Our own buffers are wiped when they are dropped. gRPC C-core's buffers, in which
//! messages arrive, are not: what is in them stays until the memory is used again.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Without core dumps, a crash writes no key to disk. (A handler that the host pipes dumps to is
/// told the limit, and is trusted to honour it.)
///
/// Child processes inherit the limit. One that is not ours, but an application's, may lift it.
///
/// `PR_SET_DUMPABLE` would do more, too much: it hides `/proc/PID/exe` from an agent without
/// CAP_SYS_PTRACE, and attestation by path or checksum would fail.
pub fn forbid_core_dumps(children_may_lift_it: bool) {
    let hard = match children_may_lift_it {
        true => getrlimit(Resource::RLIMIT_CORE).map(|(_, hard)| hard),
        false => Ok(0),
    };
    if let Err(cause) = hard.and_then(|hard| setrlimit(Resource::RLIMIT_CORE, 0, hard)) {
        log::warn!("core dumps could not be turned off: {}", cause.desc());
    }
}
