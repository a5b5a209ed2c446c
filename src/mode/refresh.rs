//! `refresh`: follows the stream of updates and publishes each good one, until it is told to end.
//! Nothing that goes wrong ends it.

use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::{Target, Unusable, usable_svid};
use crate::identity::x509_svid::X509Svid;
use crate::logging::Repetition;
use crate::options::Options;
use crate::options::value::OnRevoked;
use crate::timestamp::rfc3339;
use crate::wait::{Interrupt, StopSignal, Waiter};
use crate::workload_api::backoff::Backoff;
use crate::workload_api::failure::{Failure, Remedy};
use crate::workload_api::watch::{Event, Watch};

/// How long a call may stay silent while there is no SVID that is due for renewal.
const SILENT_CALL: Duration = Duration::from_secs(60);
/// How long a call may bring nothing new once the SVID is overdue.
const OVERDUE_CALL: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));
/// Between attempts to write.
const WRITE: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// The longest sleep: the clock may be set meanwhile, and dates then come nearer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Runs until a signal says to stop.
pub fn run(options: &Options, waiter: &Waiter) -> StopSignal {
    let mut refresh = Refresh::new(options, waiter);
    refresh.target.clean();
    loop {
        match refresh.watch.next(refresh.wake_at()) {
            Event::Offered(offered) => match usable_svid(offered, options.pod_spiffe_id.as_ref()) {
                Ok(svid) => refresh.take(svid),
                Err(unusable) => refresh.discard(&unusable),
            },
            Event::Undecodable(cause) => refresh.discard(&Unusable::Undecodable(cause)),
            Event::Failed { failure, retry_in, delivered } => refresh.failed(&failure, retry_in, delivered),
            Event::Interrupted(Interrupt::Deadline) => {}
            Event::Interrupted(Interrupt::Stop(signal)) => return signal,
        }
        refresh.write_when_due();
        refresh.hang_up_when_silent();
        refresh.report_expiry();
    }
}

struct Refresh<'a> {
    options: &'a Options,
    watch: Watch<'a>,
    target: Target,
    /// The newest good SVID, published or about to be.
    svid: Option<X509Svid>,
    due: Option<Due>,
    write_backoff: Backoff,
    overdue_backoff: Backoff,
    call_trouble: Repetition,
    write_trouble: Repetition,
    expiry: Repetition,
}

/// What remains to be done to the files, and when it is tried next.
#[derive(Clone, Copy)]
struct Due {
    what: Write,
    at: Instant,
}

#[derive(Clone, Copy)]
enum Write {
    Publish,
    Withdraw,
}

impl<'a> Refresh<'a> {
    fn new(options: &'a Options, waiter: &'a Waiter) -> Self {
        Self {
            options,
            watch: Watch::new(waiter, options.workload_api_socket.clone()),
            target: Target::new(options),
            svid: None,
            due: None,
            write_backoff: WRITE,
            overdue_backoff: OVERDUE_CALL,
            call_trouble: Repetition::default(),
            write_trouble: Repetition::default(),
            expiry: Repetition::default(),
        }
    }

    /// When the next thing is to be done even if the agent stays silent.
    fn wake_at(&self) -> Instant {
        let sleep = Instant::now() + LONGEST_SLEEP;
        let expiry =
            self.svid.as_ref().map(|svid| time_left(svid.not_after())).filter(|left| !left.is_zero());
        [self.due.map(|due| due.at), self.hang_up_at(), expiry.map(|left| Instant::now() + left)]
            .into_iter()
            .flatten()
            .fold(sleep, Instant::min)
    }

    /// A good SVID has arrived.
    fn take(&mut self, svid: X509Svid) {
        if let Some(lasted) = self.call_trouble.end() {
            log::info!("{} serves again, after {}s", self.options.workload_api_socket, lasted.as_secs());
        }
        if self.svid.as_ref().is_none_or(|old| old.serial() != svid.serial()) {
            self.overdue_backoff.reset();
        }
        self.svid = Some(svid);
        self.write_backoff.reset();
        self.due = Some(Due { what: Write::Publish, at: Instant::now() });
    }

    /// A response has arrived that gives nothing to publish.
    fn discard(&mut self, unusable: &Unusable) {
        match (unusable, &self.svid) {
            (Unusable::NotOffered(_), Some(_)) => self.revoked(&unusable.to_string()),
            _ => {
                self.report_call(Level::Error, &unusable.to_string(), "waiting for the agent's next response")
            }
        }
    }

    fn failed(&mut self, failure: &Failure, retry_in: Duration, delivered: bool) {
        if delivered && failure.is_permission_denied() {
            self.revoked(&failure.to_string());
            return;
        }
        let level = match failure.remedy() {
            Remedy::GiveUp => Level::Error,
            // The end of a stream is how agents restart.
            _ if retry_in.is_zero() => Level::Debug,
            _ => Level::Warn,
        };
        self.report_call(level, &failure.to_string(), &format!("retrying in {}ms", retry_in.as_millis()));
    }

    /// The agent has taken the identity back (SPIFFE Workload API standard, section 5.2.1).
    fn revoked(&mut self, cause: &str) {
        let next = match self.options.on_revoked {
            OnRevoked::Keep => "the files stay; --on-revoked=remove would remove them",
            OnRevoked::Remove => {
                self.svid = None;
                self.due = Some(Due { what: Write::Withdraw, at: Instant::now() });
                "the files are removed"
            }
        };
        self.report_call(Level::Error, &format!("the identity is withdrawn: {cause}"), next);
    }

    fn report_call(&mut self, level: Level, message: &str, next: &str) {
        let (level, reminder) = self.call_trouble.report(level, message);
        log::log!(level, "{message}; {next}{reminder}");
    }

    fn write_when_due(&mut self) {
        let Some(due) = self.due.filter(|due| due.at <= Instant::now()) else { return };
        let written = match (due.what, &self.svid) {
            (Write::Publish, Some(svid)) => self.target.publish(svid),
            _ => self.target.withdraw(),
        };
        let Err(error) = written else {
            self.due = None;
            self.write_trouble.end();
            return;
        };
        let retry_in = self.write_backoff.advance();
        self.due = Some(Due { at: Instant::now() + retry_in, ..due });
        let (level, reminder) = self.write_trouble.report(Level::Error, &error.to_string());
        log::log!(
            level,
            "{error}; the files there stay as they are, retrying in {}ms{reminder}",
            retry_in.as_millis()
        );
    }

    /// When an open call has been silent for too long.
    ///
    /// An agent that hangs keeps its socket open, and one whose server is away keeps its streams
    /// silent past the SVID's end; only a new call tells.
    fn hang_up_at(&self) -> Option<Instant> {
        let (since, delivered) = self.watch.open_call()?;
        Some(match self.svid.as_ref().map(|svid| time_left(svid.overdue_at())) {
            Some(Duration::ZERO) => since + self.overdue_backoff.current(),
            Some(left) if delivered => Instant::now() + left,
            _ => since + SILENT_CALL,
        })
    }

    fn hang_up_when_silent(&mut self) {
        if self.hang_up_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let message = match &self.svid {
            Some(svid) if time_left(svid.overdue_at()).is_zero() => {
                self.overdue_backoff.advance();
                format!(
                    "the SVID of {} is due for renewal (it expires at {}) and no new one comes",
                    svid.id(),
                    rfc3339(svid.not_after(), 0)
                )
            }
            _ => format!(
                "{} has sent nothing usable for {}s",
                self.options.workload_api_socket,
                SILENT_CALL.as_secs()
            ),
        };
        self.watch.hang_up();
        self.report_call(Level::Warn, &message, "calling the agent again");
    }

    fn report_expiry(&mut self) {
        let Some(svid) = self.svid.as_ref().filter(|svid| svid.is_expired(SystemTime::now())) else {
            self.expiry.end();
            return;
        };
        let message = format!(
            "the published SVID of {} expired at {}, and the agent has sent no newer one",
            svid.id(),
            rfc3339(svid.not_after(), 0)
        );
        let (level, reminder) = self.expiry.report(Level::Error, &message);
        log::log!(level, "{message}{reminder}");
    }
}

/// How long until a date; nothing if it has passed.
fn time_left(date: SystemTime) -> Duration {
    date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}
