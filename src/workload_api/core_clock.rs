//! The clock that C-core reads. It runs backwards, so that C-core's timer threads sleep.
//!
//! They wake up once a second each to look for timers, and find none: no call has a deadline of C-core's, no
//! connection a ping, and nothing is connected by it. With this clock, what they wait for is ever further
//! away: they wake up once or twice after the start, and then no more.
//!
//! It always shows a time after C-core's start, which C-core takes for the past. Where two threads complete calls at
//! once, C-core may have to look at its queue again, and waits for the moment of its start until then
//! (`completion_queue.cc`). If that were to come, it would wait for ever.
//!
//! Two other places of C-core 1.56.2 wait for a time that C-core has read. Both are harmless:
//!
//! - `original_thread_pool.cc`: the pool starts one more thread only a second after the last start. By this clock,
//!   that second passes once, before the first job, and never again: the pool has one thread for each core, 2 to 16,
//!   and at most one more. One of them polls, which is the only job that is ever queued. `SleepIfRunning` would never
//!   return, but only a thread that is started while two jobs are queued calls it.
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
use std::time::{Duration, Instant};

/// The first reading. C-core counts milliseconds in 64 bits; at this speed, it comes to C-core's start after 31 years.
const BEGIN: Duration = Duration::from_secs(1_000_000_000_000_000);

/// How fast it runs: a microsecond between two readings makes a second of sleep.
const SPEED: u32 = 1_000_000;

/// When C-core believes to have started. It takes none for a start that is still to be read from the clock.
const C_CORE_START: Reading = Reading { seconds: 1, nanoseconds: 0, clock: 0 };

/// C-core's `gpr_timespec`.
#[repr(C)]
struct Reading {
    seconds: i64,
    nanoseconds: i32,
    clock: c_int,
}

#[allow(unsafe_code, reason = "gRPC's wrapper has no way to hand over a clock")]
// SAFETY: C-core has a pointer and a function of these names, for tests. It reads the pointer whenever it wants the
// time; the function stores a number.
unsafe extern "C" {
    /// What C-core calls to read any of its clocks.
    #[link_name = "gpr_now_impl"]
    safe static READ: AtomicPtr<()>;

    #[link_name = "_ZN9grpc_core23TestOnlySetProcessEpochE12gpr_timespec"]
    safe fn set_c_core_start(start: Reading);
}

/// From now on, C-core reads this clock. To be called before it has started.
pub(crate) fn run_backwards() {
    READ.store(read as extern "C" fn(c_int) -> Reading as *mut (), Ordering::Relaxed);
    set_c_core_start(C_CORE_START);
}

extern "C" fn read(clock: c_int) -> Reading {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let reading = BEGIN.saturating_sub(BEGUN.elapsed().saturating_mul(SPEED));
    let seconds = i64::try_from(reading.as_secs()).unwrap_or(i64::MAX);
    Reading { seconds, nanoseconds: reading.subsec_nanos().cast_signed(), clock }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;
    use std::thread::{scope, yield_now};

    use futures_util::future::poll_fn;
    use futures_util::task::AtomicWaker;
    use grpcio::{ChannelBuilder, Client};

    use super::*;
    use crate::workload_api::client::start_grpc;

    /// A task on C-core's queue, which says how often it was asked to run.
    #[derive(Default)]
    struct Echo {
        asked: AtomicUsize,
        said: AtomicUsize,
        waker: AtomicWaker,
    }

    #[test]
    fn what_several_threads_put_into_its_queue_at_once_is_taken_out() {
        let client = Client::new(ChannelBuilder::new(start_grpc()).connect("unix:nobody"));
        let echoes = [(); 4].map(|()| Arc::new(Echo::default()));
        for echo in &echoes {
            let echo = echo.clone();
            client.spawn(poll_fn(move |context| {
                echo.waker.register(context.waker());
                echo.said.store(echo.asked.load(Ordering::SeqCst), Ordering::SeqCst);
                Poll::Pending
            }));
        }
        scope(|scope| {
            for echo in &echoes {
                scope.spawn(|| {
                    for number in 1..=10_000 {
                        let deadline = Instant::now() + Duration::from_secs(60);
                        echo.asked.store(number, Ordering::SeqCst);
                        echo.waker.wake();
                        while echo.said.load(Ordering::SeqCst) < number {
                            assert!(Instant::now() < deadline, "{number} is stuck");
                            yield_now();
                        }
                    }
                });
            }
        });
    }
}
