//! `refresh`: follows the stream of updates and publishes each good one, until it is told to end.
//! Nothing that goes wrong ends it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use log::Level;

use super::{AWAITING, Target, Unusable, usable_svid};
use crate::identity::x509_svid::{Term, X509Svid};
use crate::logging::{Repetition, retrying_in};
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
    refresh.target.prepare();
    loop {
        match refresh.watch.next(refresh.wake_at()) {
            Event::Offered(offered) => match usable_svid(offered, options.pod_spiffe_id.as_ref()) {
                Ok(svid) => refresh.take(svid),
                Err(unusable) => refresh.discard(&unusable),
            },
            Event::Undecodable(cause) => refresh.discard(&Unusable::Undecodable(cause)),
            Event::Failed { failure, retry_in, delivered } => refresh.failed(&failure, retry_in, delivered),
            Event::Interrupted(Interrupt::Deadline) => {}
            Event::Interrupted(Interrupt::Stop(signal)) => {
                if let Some(due) = &refresh.due {
                    log::warn!("{signal} comes before {}", due.what);
                }
                return signal;
            }
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
    /// Of the newest good SVID, published or about to be.
    term: Option<Term>,
    due: Option<Due>,
    write_backoff: Backoff,
    overdue_backoff: Backoff,
    call_trouble: Repetition,
    write_trouble: Repetition,
    expiry: Repetition,
}

/// What remains to be done to the files, and when it is tried next. A key is held no longer than
/// until it is written.
struct Due {
    what: Write,
    at: Instant,
}

enum Write {
    Publish(Box<X509Svid>),
    Withdraw,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(svid) => write!(f, "the SVID of {} could be published", svid.id()),
            Self::Withdraw => f.write_str("the files could be removed"),
        }
    }
}

impl<'a> Refresh<'a> {
    fn new(options: &'a Options, waiter: &'a Waiter) -> Self {
        Self {
            options,
            watch: Watch::new(waiter, options.workload_api_socket.clone()),
            target: Target::new(options),
            term: None,
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
            self.term.as_ref().map(|term| time_left(term.not_after())).filter(|left| !left.is_zero());
        [self.due.as_ref().map(|due| due.at), self.hang_up_at(), expiry.map(|left| Instant::now() + left)]
            .into_iter()
            .flatten()
            .fold(sleep, Instant::min)
    }

    /// A good SVID has arrived.
    fn take(&mut self, svid: X509Svid) {
        let is_new = self.term.as_ref() != Some(svid.term());
        if is_new {
            self.overdue_backoff.reset();
        }
        if (is_new || !svid.term().is_overdue(SystemTime::now()))
            && let Some(lasted) = self.call_trouble.end()
        {
            log::info!("{} serves again, after {}s", self.options.workload_api_socket, lasted.as_secs());
        }
        self.term = Some(svid.term().clone());
        self.write_backoff.reset();
        self.due = Some(Due { what: Write::Publish(Box::new(svid)), at: Instant::now() });
    }

    /// A response has arrived that gives nothing to publish.
    fn discard(&mut self, unusable: &Unusable) {
        match (unusable, &self.term) {
            (Unusable::NotOffered(_), Some(_)) => self.revoked(&unusable.to_string(), AWAITING),
            _ => self.call_trouble.log(Level::Error, &unusable.to_string(), AWAITING),
        }
    }

    fn failed(&mut self, failure: &Failure, retry_in: Duration, delivered: bool) {
        if delivered && failure.is_permission_denied() {
            self.revoked(&failure.to_string(), &retrying_in(retry_in));
            return;
        }
        let next = retrying_in(retry_in);
        match failure.remedy() {
            // Agents restart, and end their streams; it is a trouble only if the next call fails.
            Remedy::BackOff if delivered => log::debug!("{failure}{next}"),
            Remedy::GiveUp => self.call_trouble.log(Level::Error, &failure.to_string(), &next),
            _ => self.call_trouble.log(Level::Warn, &failure.to_string(), &next),
        }
    }

    /// The agent has taken the identity back (SPIFFE Workload API standard, section 5.2.1).
    fn revoked(&mut self, cause: &str, next: &str) {
        let files = match self.options.on_revoked {
            OnRevoked::Keep => "the files stay (--on-revoked=remove would remove them)",
            OnRevoked::Remove => {
                self.term = None;
                self.due = Some(Due { what: Write::Withdraw, at: Instant::now() });
                "removing the files"
            }
        };
        let message = format!("the agent has withdrawn the identity; {files}: {cause}");
        self.call_trouble.log(Level::Error, &message, next);
    }

    fn write_when_due(&mut self) {
        let Some(due) = self.due.take_if(|due| due.at <= Instant::now()) else { return };
        let written = match &due.what {
            Write::Publish(svid) => self.target.publish(svid),
            Write::Withdraw => self.target.withdraw(),
        };
        let Err(error) = written else {
            self.write_trouble.end();
            return;
        };
        let retry_in = self.write_backoff.advance();
        self.due = Some(Due { at: Instant::now() + retry_in, ..due });
        self.write_trouble.log(Level::Error, &error.to_string(), &retrying_in(retry_in));
    }

    /// When an open call has been silent for too long.
    ///
    /// An agent that hangs keeps its socket open, and one whose server is away keeps its streams
    /// silent past the SVID's end; only a new call tells.
    fn hang_up_at(&self) -> Option<Instant> {
        let (since, delivered) = self.watch.open_call()?;
        Some(match self.term.as_ref().map(|term| time_left(term.overdue_at())) {
            None => since + SILENT_CALL,
            Some(Duration::ZERO) => since + self.overdue_backoff.current(),
            Some(left) if delivered => Instant::now() + left,
            Some(left) => {
                let overdue = (Instant::now() + left).max(since + self.overdue_backoff.current());
                overdue.min(since + SILENT_CALL)
            }
        })
    }

    fn hang_up_when_silent(&mut self) {
        if self.hang_up_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let message = match &self.term {
            Some(term) if term.is_overdue(SystemTime::now()) => {
                // The first call that ends like this was made before, and waited for nothing.
                let overdue_for = SystemTime::now().duration_since(term.overdue_at()).unwrap_or_default();
                if self.watch.open_call().is_some_and(|(since, _)| since.elapsed() < overdue_for) {
                    self.overdue_backoff.advance();
                }
                let (id, end) = (term.id(), rfc3339(term.not_after(), 0));
                format!("the SVID of {id} (valid until {end}) is due for renewal and no new one comes")
            }
            _ => {
                let (endpoint, seconds) = (&self.options.workload_api_socket, SILENT_CALL.as_secs());
                format!("{endpoint} has sent nothing usable for {seconds}s")
            }
        };
        self.watch.hang_up();
        self.call_trouble.log(Level::Warn, &message, "; calling the agent again");
    }

    fn report_expiry(&mut self) {
        let Some(term) = self.term.as_ref().filter(|term| term.is_expired(SystemTime::now())) else {
            self.expiry.end();
            return;
        };
        let (id, expired) = (term.id(), rfc3339(term.not_after(), 0));
        let message = format!("the SVID of {id} expired at {expired}, and the agent has sent no newer one");
        self.expiry.log(Level::Error, &message, "");
    }
}

/// How long until a date; nothing if it has passed.
fn time_left(date: SystemTime) -> Duration {
    date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}
