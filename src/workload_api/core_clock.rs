//! The clock that C-core reads. It runs backwards, so that C-core's timer threads sleep.
//!
//! They wake up once a second each to look for timers, and find none: no call has a deadline of C-core's, no
//! connection a ping, and nothing is connected by it. With this clock, what they wait for is ever further
//! away: they wake up once or twice after the start, and then no more.
//!
//! Two other places of C-core 1.56.2 wait for a time that C-core has read. Both are harmless:
//!
//! - `original_thread_pool.cc`: the pool starts one more thread only a second after the last start. By this clock,
//!   that second never passes, and the pool keeps the threads that it has at first: one for each core, 2 to 16.
//!   One of them polls. The others run short jobs, which wait for nothing: a job that finds no idle thread runs
//!   after another job. `SleepIfRunning` would never return, but only a thread that is started later calls it.
//! - `tcp_posix.cc`: while a socket takes no more bytes, one more thread polls for ten seconds. By this clock, it
//!   polls until something happens. It is one thread for all sockets, and the executor starts another for
//!   other jobs. The write goes on at once all the same: all threads poll one set of sockets, and the one that
//!   completes calls is among them. A request has a few hundred bytes, for which each socket has room. Only an
//!   agent that wants many acknowledgements and reads none fills it.
//!
//! A test (`tests/specification/c_core.rs`) fails when the version of C-core changes: then read both places again, and
//! look for others.

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
