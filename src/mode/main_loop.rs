//! The one loop of `init`, `refresh` and `run`: take updates, publish what is due, notify, supervise,
//! serve, wait.
//!
//! `init` ends when everything is published and notified, or with the reason why not. `refresh` ends
//! at a signal; no failure ends it. `run` ends with its application.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::announce;
use super::item::Item;
use super::items::{Effect, Items, OnRevoked};
use super::publisher::Publisher;
use crate::http::{HttpServer, NotReady, Question};
use crate::identity::selection::Selection;
use crate::last_resort;
use crate::logging::{self, SharedReminder};
use crate::material::{Agent, ChangeKinds, Part, Until};
use crate::metrics::{self, Scrape};
use crate::notify::{self, News, Notifier};
use crate::process::child;
use crate::process::signal::SignalNumber;
use crate::store::owner::Owner;
use crate::store::{Publication, Store, StoreError};
use crate::supervise::{self, Application};
use crate::systemd::Systemd;
use crate::time::clock::Now;
use crate::time::timing::{LONGEST_SLEEP, STOP_GRACE};
use crate::wait::{ReceivedSignal, Waiter, Woken, is_told_to_end};
use crate::words::{Flaw, flaw};
use crate::workload_api::client::{Client, start_grpc};
use crate::workload_api::endpoint::Endpoint;

/// What to fetch, where to write it, and what to notify.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) end: End,
    pub(crate) endpoint: Endpoint,
    pub(crate) selection: Selection,
    pub(crate) parts: Vec<Rc<dyn Part>>,
    pub(crate) svid_path: PathBuf,
    /// The owner of the files, if not this process's user.
    pub(crate) owner: Option<Owner>,
    pub(crate) on_revoked: OnRevoked,
    pub(crate) notify: notify::Settings,
    pub(crate) http_address: Option<SocketAddr>,
}

impl Settings {
    /// Whether a hook or an application is started.
    pub(crate) fn has_children(&self) -> bool {
        self.notify.hook.is_some() || matches!(self.end, End::ApplicationEnded(_))
    }
}

/// When the loop ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// `init`: when everything is published and notified, or after so long.
    Published { within: Duration },
    /// `refresh`: at a signal.
    Stopped,
    /// `run`: when the application has ended.
    ApplicationEnded(supervise::Settings),
}

/// How the loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything is published and notified.
    Published,
    /// A signal asked it to end.
    Stopped(SignalNumber),
    /// The application has ended, with this exit code.
    Application(u8),
}

/// Runs until the end that the settings ask for.
pub(crate) fn run(settings: &Settings, waiter: &Waiter) -> Result<Ended, Flaw> {
    if let End::Published { within } = settings.end {
        last_resort::end_within(within);
    }
    let client = Client::new(settings.endpoint.clone(), start_grpc());
    MainLoop::new(settings, &client, waiter, Now::look())?.run()
}

/// The loop, between two turns.
pub(super) struct MainLoop<'a> {
    settings: &'a Settings,
    waiter: &'a Waiter,
    pub(super) items: Items<'a>,
    notifier: Notifier,
    application: Option<Application>,
    http: Option<HttpServer<'a>>,
    systemd: Systemd,
    phase: Phase,
}

/// How far the loop has come.
enum Phase {
    /// `refresh`: until a signal asks it to end. `run`: until the application has ended.
    Following,
    /// `init`: until everything is published, or until the deadline.
    Fetching { deadline: Instant, published: Option<Publication> },
    /// `init`: until the signals are sent and the hook has ended, or until the deadline.
    Notifying { deadline: Instant },
    /// `init`: until a hook that has outlasted its time has ended, or until the deadline.
    GivingUp { deadline: Instant, cause: Flaw },
    /// A signal asked the loop to end: until a running hook has ended.
    Stopping { signal: SignalNumber },
}

impl Phase {
    /// When the phase ends at the latest, if it has a limit.
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Following | Self::Stopping { .. } => None,
            Self::Fetching { deadline, .. }
            | Self::Notifying { deadline }
            | Self::GivingUp { deadline, .. } => Some(*deadline),
        }
    }

    /// Takes note of a publication. Says whether to notify the application of it now: `init`
    /// notifies once, after the last publication.
    fn note_publication(&mut self, publication: Publication) -> bool {
        let Self::Fetching { published, .. } = self else { return true };
        // An unchanged set must not hide that an earlier one was new.
        if *published != Some(Publication::Replaced) {
            *published = Some(publication);
        }
        false
    }
}

impl<'a> MainLoop<'a> {
    /// Prepares the directory, repairs what a crash left, and adopts what stands there.
    ///
    /// # Errors
    ///
    /// The options do not fit the directory. Any other fault of it is logged: a publication meets it again if it
    /// matters.
    // Inlined, its frame would stay on the stack of the loop.
    #[inline(never)]
    pub(super) fn new(
        settings: &'a Settings,
        client: &'a Client,
        waiter: &'a Waiter,
        now: Now,
    ) -> Result<Self, Flaw> {
        let names = settings.parts.iter().flat_map(|part| part.given_names()).map(|name| name.to_string());
        let identity = settings.selection.id.as_ref().map(ToString::to_string);
        let store = Store::new(settings.svid_path.clone())
            .owned_by(settings.owner)
            .stopped_by(is_told_to_end)
            .claiming(names, identity);
        let share = SharedReminder::default();
        match store.start(now) {
            Err(error @ StoreError::Unfit(_)) => return Err(flaw!("{error}")),
            Err(error) => log::warn!("{error}"),
            Ok(()) => {}
        }
        let publisher = Publisher::new(store, share.clone());
        let (phase, until, application) = match &settings.end {
            End::Published { within } => {
                let fetching = Phase::Fetching { deadline: now.instant + *within, published: None };
                (fetching, Until::FirstSuccess, None)
            }
            End::Stopped => (Phase::Following, Until::Stopped, None),
            End::ApplicationEnded(settings) => (Phase::Following, Until::Stopped, Some(settings)),
        };
        let agent = Agent { client, waiter, until, share: share.clone() };
        let (selection, on_revoked) = (&settings.selection, settings.on_revoked);
        let mut items = Items::new(&settings.parts, selection, &agent, publisher, on_revoked, now);
        if until == Until::Stopped {
            // Files of an earlier process count, even without an agent.
            items.adopt_existing(&settings.parts, selection, now.time);
        }
        let http = settings.http_address.map(|address| HttpServer::new(address, waiter, &share, now.instant));
        let notifier = Notifier::new(&settings.notify);
        let application = application.map(Application::new);
        // init is no service, but comes before one.
        let is_service = until == Until::Stopped;
        let systemd = Systemd::new(|name| std::env::var_os(name).filter(|_| is_service), now.instant);
        Ok(Self { settings, waiter, items, notifier, application, http, systemd, phase })
    }

    /// Not by value: a second copy of the loop would stay on the stack.
    fn run(&mut self) -> Result<Ended, Flaw> {
        self.begin(Now::look());
        loop {
            let deadline = match self.turn(Now::look()) {
                ControlFlow::Break(end) => return end,
                ControlFlow::Continue(deadline) => deadline,
            };
            match self.waiter.wait(deadline) {
                Woken::Ready => {}
                Woken::ChildEnded => self.reap(Now::look().instant),
                Woken::Signal(received) => self.signalled(received, Now::look().instant)?,
            }
        }
    }

    /// Takes up the files that stand there. To be called once, before the first turn.
    pub(super) fn begin(&mut self, now: Now) {
        self.items.tell_identity(now);
        if self.items.has_published() {
            // An earlier helper may have died before it told anybody of its files.
            let (publication, changed) = (Publication::Unchanged, ChangeKinds::default());
            self.notify(Effect { publication, changed, renewal_due: None }, now);
        }
    }

    /// Does what is due. Returns how the loop has ended, if it has, or when the next turn is due at the latest.
    pub(super) fn turn(&mut self, now: Now) -> ControlFlow<Result<Ended, Flaw>, Instant> {
        let is_busy = self.items.poll(now, &mut self.waiter.context());
        self.publish(is_busy, now);
        self.notifier.run_due(now.instant);
        self.supervise(now);
        self.serve(now);
        self.report_to_systemd(now);
        logging::run_due();
        if let Some(end) = self.end(now) {
            return ControlFlow::Break(end);
        }
        ControlFlow::Continue(if is_busy { now.instant } else { self.next_deadline(now) })
    }

    /// Publishes what is due, and notifies the application.
    fn publish(&mut self, is_busy: bool, now: Now) {
        match self.phase {
            // One part does not hold up another: init publishes the parts that have arrived.
            Phase::Fetching { deadline, .. } if now.instant >= deadline => {
                self.items.stop_waiting(now.instant);
            }
            // Nobody would be notified.
            Phase::Stopping { .. } | Phase::GivingUp { .. } => return,
            _ => {}
        }
        self.items.report_lasting(now);
        if matches!(self.phase, Phase::Following) {
            self.items.fetch_damaged(is_busy, now);
        }
        let effect = self.items.publish_due(is_busy, now);
        if let Some(effect) = effect.filter(|effect| self.phase.note_publication(effect.publication)) {
            self.notify(effect, now);
        }
    }

    fn notify(&mut self, effect: Effect, now: Now) {
        if effect.publication == Publication::Removed {
            return;
        }
        let news = News {
            changed: effect.changed,
            there: self.items.kinds(),
            at_latest: effect.renewal_due.map(|due| now.instant_of(due)),
            environment: announce::hook_environment(self.items.identity(), &self.settings.svid_path),
        };
        self.application.iter_mut().for_each(|application| application.published(&news, now.instant));
        self.notifier.published(news, now.instant);
    }

    /// Starts the application when everything is published and valid, and notifies it of rotations.
    fn supervise(&mut self, now: Now) {
        // One that has ended is not asked to end.
        self.reap(now.instant);
        let Some(application) = &mut self.application else { return };
        let is_good = self.items.fault(now).is_none();
        application.run_due(is_good, now.instant);
        if is_good {
            application.start(now.instant);
        }
    }

    /// Reaps the children that have ended, and reports each to the module that started it.
    pub(super) fn reap(&mut self, now: Instant) {
        while let Some((pid, status)) = child::reap() {
            let application = self.application.as_mut();
            let is_ours = self.notifier.child_ended(pid, status, now)
                || application.is_some_and(|application| application.child_ended(pid, status));
            if !is_ours {
                log::debug!("reaped orphan process {pid}, which {status}");
            }
        }
    }

    fn serve(&mut self, now: Now) {
        let Some(http) = &mut self.http else { return };
        let (items, notifier, application) = (&mut self.items, &self.notifier, &self.application);
        let fault = |items: &mut Items<'_>| items.fault_on_disk(now).or_else(|| not_running(application));
        http.run_due(now.instant, &mut |question| match question {
            Question::Ready => fault(items).map_or(Ok(String::new()), Err),
            Question::Metrics => Ok(metrics::render(&Scrape {
                is_ready: fault(items).is_none(),
                published: items.published().map(|(part, facts)| (part.file(), facts)).collect(),
                now: now.time,
                publications: items.publisher.publications,
                calls: items.calls().collect(),
                signals: application.as_ref().map_or(notifier.signals(), Application::renewals),
                hook_runs: notifier.hook_runs(),
                hook_running: notifier.hook_running_for(now.instant),
            })),
        });
    }

    fn report_to_systemd(&mut self, now: Now) {
        let fault = self.items.fault(now).or_else(|| not_running(&self.application));
        let ready = fault.map_or(Ok(()), |fault| Err(fault.cause));
        let published = || announce::status(self.items.identity(), &self.settings.svid_path);
        self.systemd.state(ready, published, now.instant);
        self.systemd.run_due(now.instant);
    }

    /// How the loop has ended, if it has.
    fn end(&mut self, now: Now) -> Option<Result<Ended, Flaw>> {
        let is_notified = self.notifier.is_done();
        match &self.phase {
            Phase::Following => {
                let exit_code = self.application.as_ref().and_then(Application::exit_code);
                exit_code.map(|code| Ok(Ended::Application(code)))
            }
            Phase::Fetching { deadline, published } => {
                if !self.items.is_settled() && now.instant < *deadline {
                    return None;
                }
                let (Some(publication), End::Published { within }) = (*published, &self.settings.end) else {
                    return Some(self.outcome());
                };
                // Fetching may have used up its time, so notifying has a limit of its own.
                last_resort::end_within(*within + STOP_GRACE);
                self.phase = Phase::Notifying { deadline: now.instant + *within };
                // The first notification tells everything.
                let changed = ChangeKinds::default();
                self.notify(Effect { publication, changed, renewal_due: None }, now);
                self.end(now)
            }
            Phase::Notifying { .. } if is_notified => Some(self.outcome()),
            Phase::Notifying { deadline } if now.instant < *deadline => None,
            Phase::Notifying { .. } => {
                let Err(cause) = self.notifier.outcome() else { return Some(self.outcome()) };
                self.notifier.begin_stop();
                self.phase = Phase::GivingUp { deadline: now.instant + STOP_GRACE, cause };
                self.end(now)
            }
            Phase::GivingUp { deadline, cause } => {
                (is_notified || now.instant >= *deadline).then(|| Err(not_notified(cause)))
            }
            Phase::Stopping { .. } if !is_notified => None,
            Phase::Stopping { signal } => match self.settings.end {
                End::Published { .. } => Some(self.outcome()),
                _ => Some(Ok(Ended::Stopped(*signal))),
            },
        }
    }

    /// How `init` ends.
    fn outcome(&self) -> Result<Ended, Flaw> {
        let unpublished = self.items.store_error().map(|error| flaw!("could not publish the files: {error}"));
        let missing = || missing(&self.items, &self.settings.end);
        match (unpublished.or_else(missing), self.notifier.outcome()) {
            (None, Ok(())) => Ok(Ended::Published),
            (None, Err(cause)) => Err(not_notified(&cause)),
            (Some(error), notified) => {
                if let Err(also) = notified {
                    log::error!("{also}");
                }
                Err(error)
            }
        }
    }

    /// When the next turn is due at the latest. No sleep is long: the clock may be set meanwhile.
    fn next_deadline(&self, now: Now) -> Instant {
        self.next_due(now).into_iter().fold(now.instant + LONGEST_SLEEP, Instant::min)
    }

    /// When there is something to do, as far as that is known.
    pub(super) fn next_due(&self, now: Now) -> Option<Instant> {
        let application = self.application.as_ref().and_then(Application::next_deadline);
        let http = self.http.as_ref().and_then(HttpServer::next_deadline);
        let items = match self.phase {
            // Nothing is published any more.
            Phase::Stopping { .. } | Phase::GivingUp { .. } => None,
            Phase::Following => self.items.next_deadline(true, now),
            Phase::Fetching { .. } | Phase::Notifying { .. } => self.items.next_deadline(false, now),
        };
        let deadlines = [
            items,
            self.notifier.next_deadline(),
            self.systemd.next_deadline(),
            logging::next_deadline(now.instant),
            self.phase.deadline(),
            application,
            http,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Passes a signal on to the application, or ends the loop, or ignores the signal.
    pub(super) fn signalled(&mut self, received: ReceivedSignal, now: Instant) -> Result<(), Flaw> {
        let signal = received.signal;
        if let Some(application) = &mut self.application {
            application.signalled(received, now);
            if application.is_stopping() {
                self.systemd.stopping();
            }
            return Ok(());
        }
        if !signal.asks_to_end() {
            log::debug!("ignored {signal}");
            return Ok(());
        }
        // A hook that has ended by now was not stopped.
        self.reap(now);
        // One that runs is waited for.
        last_resort::end_at_will();
        self.systemd.stopping();
        match self.phase {
            Phase::Fetching { published, .. } => {
                let what = if published.is_none() { "anything" } else { "everything" };
                return Err(flaw!("stopped by {signal} before {what} was published"));
            }
            Phase::Following | Phase::Notifying { .. } => {
                for part in self.items.unwritten() {
                    log::warn!("stopped by {signal}; {} was not written", part.name());
                }
                self.notifier.begin_stop();
                self.phase = Phase::Stopping { signal };
            }
            Phase::GivingUp { .. } | Phase::Stopping { .. } => {}
        }
        Ok(())
    }
}

/// Why `init` fails though it has published.
fn not_notified(cause: &Flaw) -> Flaw {
    flaw!("the files are published, but {cause}")
}

/// Why the application of `run` does not run, if it does not.
fn not_running(application: &Option<Application>) -> Option<NotReady> {
    let cause = application.as_ref()?.fault()?;
    Some(NotReady { cause, lasts: None })
}

/// Which items have not arrived, and why; `None` if everything is published.
fn missing(items: &Items<'_>, end: &End) -> Option<Flaw> {
    let problems: Vec<_> = items.missing().map(Item::describe_problem).collect();
    let (what, rest) = match items.has_published() {
        true => ("not everything arrived", " (the rest is published)"),
        false => ("no SVID", ""),
    };
    let within = match end {
        End::Published { within } if !items.is_settled() => format!(" within {within:?}"),
        _ => String::new(),
    };
    (!problems.is_empty()).then(|| flaw!("{what}{within}: {}{rest}", problems.join("; ")))
}
