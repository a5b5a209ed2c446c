//! The clock that C-core reads. It runs backwards, so that C-core's timer threads sleep.
//!
//! They wake up once a second each to look for timers, and find none: no call has a deadline of C-core's, no
//! connection a ping, and nothing is connected by it. With this clock, what they wait for is ever further
//! away: they wake up once or twice after the start, and then no more. Nothing else waits for a time that
//! C-core has read.

use std::ffi::c_int;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Instant;

/// The first reading, in seconds. C-core reads it several times at its start, and refuses less than two.
const BEGIN: i64 = 1_000_000_000;

/// How fast it runs: a microsecond between two readings makes a second of sleep.
const SPEED: u32 = 1_000_000;

/// C-core's `gpr_timespec`.
#[repr(C)]
struct Reading {
    seconds: i64,
    nanoseconds: i32,
    clock: c_int,
}

#[allow(unsafe_code, reason = "gRPC's wrapper has no way to hand over a clock")]
// SAFETY: C-core has a pointer of this name, which it reads whenever it wants the time; there is one for tests
// to replace it.
unsafe extern "C" {
    /// What C-core calls to read any of its clocks.
    #[link_name = "gpr_now_impl"]
    safe static READ: AtomicPtr<()>;
}

/// From now on, C-core reads this clock. To be called before it has started.
pub(crate) fn run_backwards() {
    READ.store(read as extern "C" fn(c_int) -> Reading as *mut (), Ordering::Relaxed);
}

extern "C" fn read(clock: c_int) -> Reading {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let passed = START.elapsed() * SPEED;
    let seconds = i64::try_from(passed.as_secs()).unwrap_or(i64::MAX);
    // As many whole seconds, and a fraction on top of them.
    let fraction = 999_999_999 - passed.subsec_nanos().cast_signed();
    Reading { seconds: BEGIN - seconds - 1, nanoseconds: fraction, clock }
}
