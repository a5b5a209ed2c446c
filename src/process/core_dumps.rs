//! Keeps private keys out of core dumps.
//!
//! Our own buffers are wiped when they are dropped. The buffers of gRPC C-core, in which messages arrive,
//! are not.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Sets the limit of core dumps to 0. (A handler that the host pipes dumps to learns the limit, and is
/// trusted to honour it.)
///
/// Child processes inherit the limit. With `children_may_lift_it`, the hard limit stays.
///
/// `PR_SET_DUMPABLE` would do too much: it hides `/proc/PID/exe` from an agent without
/// CAP_SYS_PTRACE, and attestation by path or checksum would fail.
pub(crate) fn forbid(children_may_lift_it: bool) {
    let hard =
        if children_may_lift_it { getrlimit(Resource::RLIMIT_CORE).map(|limits| limits.1) } else { Ok(0) };
    if let Err(cause) = hard.and_then(|hard| setrlimit(Resource::RLIMIT_CORE, 0, hard)) {
        log::warn!("cannot turn off core dumps: {}", cause.desc());
    }
}
