//! Every delay and time limit of the program, each with its reason.

use std::time::Duration;

use crate::time::backoff::Backoff;

const fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

// Calls of the Workload API.

/// Between attempts to connect while nothing listens, with jitter. A local connection costs nothing; the longest
/// delay leaves time for the call itself, so that new files are there within a second of the
/// agent's return.
pub(crate) const AWAIT_ENDPOINT: Backoff = Backoff::new(milliseconds(100), milliseconds(800));
/// Between calls while the agent answers with an error, with jitter.
pub(crate) const CALL_AGAIN: Backoff = Backoff::new(milliseconds(100), seconds(5));
/// Before the next call after InvalidArgument or Unimplemented: the standard says not to retry (SPIFFE
/// Workload Endpoint standard, appendix A). A sidecar lives for months, and still retries, rarely.
pub(crate) const CALL_RARELY: Duration = seconds(60);
/// From the start of a stream that delivered to the start of the next: an agent that hangs up after
/// each message must not be called in a tight loop.
pub(crate) const BETWEEN_STREAMS: Duration = seconds(1);
/// Up to so much later: an agent may end the streams of a whole node at one moment.
pub(crate) const SPREAD_OF_STREAMS: Duration = milliseconds(100);
/// How long a TCP connection may take. (A Unix socket connects at once, or not at all.)
pub(crate) const TCP_CONNECT: Duration = seconds(5);
/// After how many seconds of silence the kernel asks over TCP whether the agent's machine is still there.
pub(crate) const TCP_PROBE_AFTER: u32 = 30;
/// Between such questions, in seconds, while there is no answer.
pub(crate) const TCP_PROBE_AGAIN: u32 = 10;
/// After so many of them, the connection has ended.
pub(crate) const TCP_PROBES: u32 = 3;
/// How long a call with a single response may take. An agent whose server is away answers from its
/// cache after 30 s.
pub(crate) const SINGLE_RESPONSE: Duration = seconds(45);

// Sources.

/// For how long answers must have been denials before the identity counts as withdrawn. A
/// restarted agent says so for about 5 s.
pub(crate) const DENIAL_IS_WITHDRAWAL: Duration = seconds(30);
/// How long after the agent's return no denial withdraws the identity: a restart alone must not remove files.
pub(crate) const AFTER_RETURN: Duration = seconds(10);
/// How long a call may have no answer before that is logged.
pub(crate) const SILENT_CALL: Duration = seconds(5);
/// How long a stream may stay silent after the call before it is replaced: the agent may hang.
pub(crate) const SILENT_STREAM: Duration = seconds(60);
/// How old a stream of JWT bundles may be that has delivered. Keys change once in days, so silence alone does not
/// show that an agent hangs.
pub(crate) const SILENT_BUNDLES: Duration = seconds(60 * 60);
/// How long a new stream may bring nothing new while the SVID is overdue, and how long to wait
/// between calls for a token that the agent cannot renew.
pub(crate) const OVERDUE: Backoff = Backoff::new(seconds(5), seconds(60));
/// From one token to the call for the next, however short its life.
pub(crate) const BETWEEN_TOKENS: Duration = seconds(1);

/// How far the date of a revocation list may lie in the future: clocks differ.
pub(crate) const CLOCKS_DIFFER: Duration = seconds(5 * 60);

/// How long inspect waits for WIT-SVIDs after all else has come: an agent whose server has their profile turned off
/// is silent.
pub(crate) const SILENT_PROFILE: Duration = seconds(2);

// Publication.

/// How long the first publication waits for sources that have brought nothing, so that all parts are one
/// publication and the application is notified once. And how long a token waits for the X.509-SVID
/// that decides its identity.
pub(crate) const FIRST_SET: Duration = milliseconds(500);
/// From one attempt to publish to the next while updates flood in: what comes between is superseded.
pub(crate) const FLOOD_PACE: Duration = milliseconds(200);
/// A flood is over after so long without an update.
pub(crate) const FLOOD_OVER: Duration = milliseconds(100);
/// One update in this time, on average, is no flood: nothing that is renewed for a reason comes faster.
pub(crate) const UPDATE_COST: Duration = milliseconds(5);
/// What updates may cost in advance: ten of them at one moment are no flood yet.
pub(crate) const UPDATE_CREDIT: Duration = milliseconds(50);
/// Between attempts to write.
pub(crate) const WRITE_AGAIN: Backoff = Backoff::new(milliseconds(250), seconds(10));
/// Between looks at the published files, which others may remove or change.
pub(crate) const LOOK_AT_FILES: Duration = seconds(60);
/// Between looks at the published files for the sake of probes.
pub(crate) const LOOK_FOR_PROBES: Duration = seconds(1);
/// Between attempts to lock the directory: another helper writes for a few milliseconds.
pub(crate) const LOCK_AGAIN: Duration = milliseconds(100);

// Notification.

/// How long a notification waits for more publications, so that one notification covers them. A
/// process that has just started cannot take a signal yet.
pub(crate) const DEBOUNCE: Duration = milliseconds(200);
/// Between attempts to find and signal a process: its PID file may be about to be written, and a slow
/// application must not wait long once it is ready.
pub(crate) const SIGNAL_AGAIN: Backoff = Backoff::new(milliseconds(100), seconds(10));
/// For how long a process may be missing, or without a handler, before the log says so above debug: most start
/// in this time.
pub(crate) const SIGNAL_QUIET: Duration = seconds(3);
/// Between looks at a process that blocks the signal: one that forks or starts a thread does so for about a
/// millisecond.
pub(crate) const BLOCKED_LOOK: Duration = milliseconds(20);
/// How many such looks in a row show that it waits for the signal, with `sigwait` or `signalfd`: one second.
/// A loop of Python's `subprocess.run` blocks signals for half of its time.
pub(crate) const BLOCKED_LOOKS: u32 = 50;
/// How many are needed at most, once a process was seen to block the signal for a moment alone: ten seconds.
pub(crate) const MOST_BLOCKED_LOOKS: u32 = 500;
/// How much later than its PID file a process may seem to have started. The kernel's start times are up to
/// a second early, and the clock may have been corrected since.
pub(crate) const PID_FILE_SLACK: Duration = seconds(2);
/// Between runs of a hook that fails: often enough for a server that is just starting, and a line a minute
/// in the log of one that stays away.
pub(crate) const HOOK_AGAIN: Backoff = Backoff::new(seconds(1), seconds(60));
/// Between attempts to start the application of `run` while the machine lacks memory or processes for it.
pub(crate) const START_AGAIN: Backoff = Backoff::new(milliseconds(250), seconds(10));
/// How long after SIGINT or SIGQUIT a rotation is not told to the application of `run`, at least: it may be ending.
/// A pod has half a minute for that, by default.
pub(crate) const HOLD_AFTER_SIGINT: Duration = seconds(60);
/// How much longer it is not told, at most, while the old SVID is good: what has not ended by then runs on.
pub(crate) const LONGEST_HOLD: Duration = seconds(60 * 60);
/// How long init waits, after its time is over, for a hook that it has asked to end.
pub(crate) const STOP_GRACE: Duration = seconds(1);

// HTTP.

/// How long a connection may take, from the first byte to the last: a probe gives up sooner.
pub(crate) const CONNECTION: Duration = seconds(5);
/// The pause after a connection could not be accepted (no descriptor is left, for example). Open connections
/// are closed: the store and the Workload API need the descriptors.
pub(crate) const ACCEPT_AGAIN: Duration = seconds(1);
/// Between attempts to listen, while the port is taken.
pub(crate) const LISTEN_AGAIN: Backoff = Backoff::new(seconds(1), seconds(60));

// The loop and the log.

/// The longest sleep: if the clock is set meanwhile, dates come nearer.
pub(crate) const LONGEST_SLEEP: Duration = seconds(60);
/// The pause after epoll has failed (out of memory, for example).
pub(crate) const EPOLL_ERROR_PAUSE: Duration = milliseconds(10);
/// How often a lasting state is logged again.
pub(crate) const REMINDER: Duration = seconds(60);
/// Before a message is sent again that systemd had no room for.
pub(crate) const NOTIFY_AGAIN: Duration = seconds(1);
/// Between looks for room on stderr after lines were dropped.
pub(crate) const REPORT_DROPPED: Duration = seconds(1);
/// The last moment for a slow reader of stderr, at the program's end, which must take less than 100 ms.
pub(crate) const FINAL_FLUSH: Duration = milliseconds(20);
/// How long after its deadline init is ended by an alarm, when it has not ended by itself: it may be
/// writing.
pub(crate) const ALARM_GRACE: Duration = seconds(1);
/// Between looks at names that lead elsewhere: in a directory that all users share, they follow `..data`
/// one by one.
pub(crate) const LOOK_AT_NAMES: Duration = milliseconds(5);
/// How many such looks there are.
pub(crate) const LOOKS_AT_NAMES: u32 = 40;
