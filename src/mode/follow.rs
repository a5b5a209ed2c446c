//! The one loop of `init`, `refresh` and `run`: take updates, publish what is due, notify, supervise,
//! serve, wait.
//!
//! `init` ends when everything is published and notified, or with the reason why not. `refresh` ends
//! at a signal; no failure ends it. `run` ends with its application.

use std::mem::ManuallyDrop;
use std::time::Instant;

use super::announce;
use super::desired_set::{DesiredSet, Effect};
use super::follow_error::{FollowError, MissingError};
pub(crate) use super::follow_settings::{End, Settings};
pub(crate) use super::phase::Ended;
use super::phase::Phase;
use crate::clock::Now;
use crate::http::metrics::{self, Scrape};
use crate::http::{HttpServer, Question};
use crate::last_resort;
use crate::logging::{self, Share};
use crate::notify::Notifier;
use crate::process::child;
use crate::source::{Agent, Sources, Until};
use crate::store::{Publication, Store};
use crate::supervise::Application;
use crate::systemd::Systemd;
use crate::timing::{LONGEST_SLEEP, STOP_GRACE};
use crate::wait::{ReceivedSignal, Waiter, Woken};
use crate::workload_api::client::{Client, start_grpc};

/// Runs until the end that the settings ask for.
pub(crate) fn run(settings: &Settings, waiter: &Waiter) -> Result<Ended, FollowError> {
    if let End::Published { within } = settings.end {
        last_resort::end_within(within);
    }
    let client = Client::new(settings.endpoint.clone(), start_grpc());
    let now = Now::look();
    let store = Store::new(settings.svid_path.clone());
    let store = store.owned_by(settings.owner).claiming(settings.layout.patterns());
    let share = Share::default();
    let mut set = DesiredSet::new(&settings.layout, store, settings.on_revoked, &share);
    set.prepare(now.time).map_err(FollowError::Start)?;
    let (until, application) = (settings.end.until(), settings.end.application().map(Application::new));
    if until == Until::Stopped {
        // Files of an earlier process count, even without an agent.
        set.adopt_existing(&settings.selection, now.time);
    }
    let phase = Phase::first(&settings.end, now.instant);
    let http = settings.http_address.map(|address| HttpServer::new(address, waiter, &share, now.instant));
    let agent = Agent { client: &client, waiter, until, share };
    let sources = ManuallyDrop::new(Sources::new(&settings.layout, &settings.selection, &agent, now));
    let notifier = Notifier::new(&settings.notify);
    let systemd = Systemd::new(|name| std::env::var_os(name), now.instant);
    Follow { settings, waiter, sources, set, notifier, application, http, systemd, phase }.run()
}

struct Follow<'a> {
    settings: &'a Settings,
    waiter: &'a Waiter,
    /// Never dropped: to end its calls, gRPC may need threads that it could not start.
    sources: ManuallyDrop<Sources<'a>>,
    set: DesiredSet<'a>,
    notifier: Notifier,
    application: Option<Application>,
    http: Option<HttpServer<'a>>,
    systemd: Systemd,
    phase: Phase,
}

impl Follow<'_> {
    fn run(mut self) -> Result<Ended, FollowError> {
        self.learn_identity(Now::look());
        loop {
            let now = Now::look();
            let is_busy = self.take_updates(now);
            self.publish(is_busy, now);
            self.notifier.run_due(now.instant);
            self.supervise(now);
            self.serve(now);
            self.report_to_systemd(now);
            logging::run_due();
            if let Some(end) = self.end(now) {
                return end;
            }
            let deadline = if is_busy { now.instant } else { self.next_deadline(now) };
            match self.waiter.wait(deadline) {
                Woken::Ready => {}
                Woken::ChildEnded => self.reap(Now::look().instant),
                Woken::Signal(received) => self.signalled(received)?,
            }
        }
    }

    /// Takes the updates of the sources; returns whether there may be more.
    fn take_updates(&mut self, now: Now) -> bool {
        let updates = self.sources.poll(now, &mut self.waiter.context());
        let is_busy = !updates.is_empty();
        for (index, update) in updates {
            match self.set.apply(index, update, now) {
                Effect::None => {}
                Effect::ChangedMind => self.sources.hurry(now),
                Effect::Removing => self.sources.forget(now),
            }
        }
        if is_busy {
            self.learn_identity(now);
        }
        is_busy
    }

    /// Tells the sources whose files these are.
    fn learn_identity(&mut self, now: Now) {
        let Some(svid) = self.set.identity() else { return };
        for index in self.sources.learn(&svid.id, now) {
            self.set.disown(index, now);
        }
    }

    /// Publishes what is due, and notifies the application.
    fn publish(&mut self, is_busy: bool, now: Now) {
        match self.phase {
            // One part does not hold up another: init publishes the parts that have arrived.
            Phase::Fetching { deadline, .. } if now.instant >= deadline => self.set.flush(now),
            // Nobody would be notified.
            Phase::Stopping { .. } => return,
            _ => {}
        }
        self.set.report_expired(now);
        if matches!(self.phase, Phase::Following) && self.set.is_damaged(now) {
            self.sources.fetch_again(now);
        }
        let publication = self.set.publish_due(is_busy, now);
        if let Some(publication) = publication.filter(|publication| self.phase.published(*publication)) {
            self.notify(publication, now);
        }
    }

    fn notify(&mut self, publication: Publication, now: Now) {
        let environment = announce::to_hook(self.set.identity(), self.set.path());
        match publication {
            Publication::Replaced => {
                self.notifier.published(environment, now.instant);
                self.application.iter_mut().for_each(|application| application.renewed(now.instant));
            }
            Publication::Unchanged => self.notifier.unchanged(environment, now.instant),
            Publication::Removed => {}
        }
    }

    /// Starts the application when everything is published and valid, and notifies it of rotations.
    fn supervise(&mut self, now: Now) {
        let Some(application) = &mut self.application else { return };
        application.run_due(now.instant);
        if self.set.fault(now.time).is_none() {
            application.start(now.instant);
        }
    }

    /// Reaps the children that have ended, and reports each to the module that started it.
    fn reap(&mut self, now: Instant) {
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
        let (sources, set, notifier, application) =
            (&self.sources, &self.set, &self.notifier, &self.application);
        http.run_due(now.instant, &mut |question| match question {
            Question::Ready => {
                let fault = set.fault_on_disk(now.time);
                fault.or_else(|| application.as_ref()?.fault()).map_or(Ok(String::new()), Err)
            }
            Question::Metrics => Ok(metrics::render(&Scrape {
                svids: set.published_files().collect(),
                bundles: set.published_bundles().collect(),
                publications: set.publications(),
                calls: sources.calls().collect(),
                signals: application.as_ref().map_or(notifier.signals(), Application::renewals),
                hook_runs: notifier.hook_runs(),
            })),
        });
    }

    fn report_to_systemd(&mut self, now: Now) {
        let fault = self.set.fault(now.time).or_else(|| self.application.as_ref()?.fault());
        let ready = fault.map_or(Ok(()), Err);
        self.systemd.state(ready, || announce::status(self.set.identity(), self.set.path()));
        self.systemd.run_due(now.instant);
    }

    /// How the loop has ended, if it has.
    fn end(&mut self, now: Now) -> Option<Result<Ended, FollowError>> {
        let is_notified = self.notifier.is_done();
        match &self.phase {
            Phase::Following => {
                let exit_code = self.application.as_ref().and_then(Application::exit_code);
                exit_code.map(|code| Ok(Ended::Application(code)))
            }
            Phase::Fetching { deadline, published } => {
                if !self.set.is_settled() && now.instant < *deadline {
                    return None;
                }
                let (Some(publication), End::Published { within }) = (*published, &self.settings.end) else {
                    return Some(self.outcome());
                };
                // Fetching may have used up its time, so notifying has a limit of its own.
                last_resort::end_within(*within + STOP_GRACE);
                self.phase = Phase::Notifying { deadline: now.instant + *within };
                self.notify(publication, now);
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
                (is_notified || now.instant >= *deadline).then(|| Err(cause.clone().into()))
            }
            Phase::Stopping { .. } if !is_notified => None,
            Phase::Stopping { signal } => match self.settings.end {
                End::Published { .. } => Some(self.outcome()),
                _ => Some(Ok(Ended::Stopped(*signal))),
            },
        }
    }

    /// How `init` ends.
    fn outcome(&self) -> Result<Ended, FollowError> {
        if let Some(error) = self.set.write_error() {
            return Err(FollowError::Publish(error.clone()));
        }
        if let Some(missing) = MissingError::of(&self.set, &self.sources, &self.settings.end) {
            return Err(FollowError::Missing(missing));
        }
        self.notifier.outcome()?;
        Ok(Ended::Published)
    }

    fn next_deadline(&self, now: Now) -> Instant {
        let application = self.application.as_ref().and_then(Application::next_deadline);
        let http = self.http.as_ref().and_then(HttpServer::next_deadline);
        let deadlines = [
            self.sources.next_deadline(now),
            self.set.next_deadline(now),
            self.notifier.next_deadline(),
            self.systemd.next_deadline(),
            logging::next_deadline(now.instant),
            self.phase.deadline(),
            application,
            http,
        ];
        deadlines.into_iter().flatten().fold(now.instant + LONGEST_SLEEP, Instant::min)
    }

    /// Passes a signal on to the application, or ends the loop, or ignores the signal.
    fn signalled(&mut self, received: ReceivedSignal) -> Result<(), FollowError> {
        let signal = received.signal;
        if let Some(application) = &mut self.application {
            application.signalled(received, Now::look().instant);
            if application.is_stopping() {
                self.systemd.stopping();
            }
            return Ok(());
        }
        if !signal.asks_to_end() {
            log::debug!("ignored {signal}");
            return Ok(());
        }
        // The hook is waited for.
        last_resort::end_at_will();
        self.systemd.stopping();
        match self.phase {
            Phase::Fetching { published, .. } => {
                let what = if published.is_none() { "an SVID" } else { "everything" };
                return Err(FollowError::Stopped { signal, what });
            }
            Phase::Following | Phase::Notifying { .. } => {
                for part in self.set.unwritten() {
                    log::warn!("stopped by {signal}; {} was not written", announce::name(part));
                }
                self.notifier.begin_stop();
                self.phase = Phase::Stopping { signal };
            }
            Phase::GivingUp { .. } | Phase::Stopping { .. } => {}
        }
        Ok(())
    }
}
