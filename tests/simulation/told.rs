//! What must hold of the hook and of the application.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::children::HookEvent;
use super::lines;
use super::record::{Count, Version, kinds_of};
use super::trouble::{Event, GRACE, MINUTE, SECOND, below, between};
use super::world::World;
use crate::identity::svid_info::SvidInfo;
use crate::material::ChangeKinds;
use crate::mode::check;
use crate::supervise::OnRenewal;
use crate::time::timestamp::rfc3339;
use crate::time::timing::{DEBOUNCE, HOLD_AFTER_SIGINT, LONGEST_HOLD, START_AGAIN};

/// What the hook is owed.
#[derive(Default)]
pub(super) struct HookWatch {
    has_begun: bool,
    /// What no run was told yet that has succeeded or goes on.
    pending: ChangeKinds,
    /// By when it is to be run.
    owed: Option<Instant>,
    /// A run that has failed is not repeated before.
    retry_at: Option<Instant>,
    failures: u32,
    run: Option<RunWatch>,
}

struct RunWatch {
    began: Instant,
    told: ChangeKinds,
    warnings: u64,
}

impl HookWatch {
    fn published(&mut self, changed: ChangeKinds, concerned: &ChangeKinds, by: Instant) {
        let is_concerned = !changed.common(concerned).is_empty();
        self.pending.add(changed);
        if is_concerned {
            self.has_begun = true;
            self.owed = Some(self.owed.map_or(by, |owed| owed.min(by)));
            (self.failures, self.retry_at) = (0, None);
        }
    }

    fn ended(&mut self, is_success: bool, now: Instant) {
        let run = self.run.take();
        if is_success {
            self.failures = 0;
        } else {
            self.pending.add(run.map(|run| run.told).unwrap_or_default());
        }
        let again = now + (SECOND * (1 << self.failures.min(10))).min(MINUTE);
        match &mut self.owed {
            Some(owed) if is_success => *owed = now.max(*owed),
            // A newer publication that may wait puts nothing off.
            Some(owed) => {
                self.failures += 1;
                *owed = again.min(now.max(*owed));
            }
            None if is_success => {}
            None => {
                self.failures += 1;
                self.owed = Some(again);
                self.retry_at = self.owed;
            }
        }
    }
}

/// What the application is owed.
#[derive(Default)]
pub(super) struct ApplicationWatch {
    pid: Option<Pid>,
    /// Publications of its kinds since its start, and the number of those told.
    news: u64,
    told: u64,
    /// All that any was told.
    all_told: u64,
    untold_since: Option<Instant>,
    pub(super) can_take_since: Option<Instant>,
    /// It may be ending, and is told nothing before.
    may_end_until: Option<Instant>,
    /// By then it is told all the same: the new SVIDs are old.
    told_by: Option<Instant>,
}

impl ApplicationWatch {
    /// It has got SIGINT, or the like.
    pub(super) fn may_be_ending(&mut self, now: Instant) {
        if self.may_end_until.is_none_or(|until| until <= now) {
            self.may_end_until = Some(now + HOLD_AFTER_SIGINT);
        }
    }
}

impl World<'_> {
    /// The hook runs for the newest files in the end, one run at a time, and is told all that has changed.
    pub(super) fn look_at_hook(
        &mut self,
        changed: Option<&ChangeKinds>,
        published: &BTreeMap<String, Version>,
    ) {
        let events = std::mem::take(&mut self.children.0.borrow_mut().hook_events);
        if !self.has_hook() {
            if !events.is_empty() {
                self.fail("a hook without a hook");
            }
            return;
        }
        let now = self.now.instant;
        let (ended, begun): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| matches!(event, HookEvent::Ended { .. }));
        for event in ended {
            self.watch.hook.ended(matches!(event, HookEvent::Ended { is_success: true }), now);
        }
        let is_found = self.watch.is_new && !published.is_empty();
        if changed.is_some() && !published.is_empty() || is_found {
            let there = || published.keys().flat_map(|file| kinds_of(file)).collect();
            let is_first = !self.watch.hook.has_begun;
            let changed = if is_first { there() } else { changed.cloned().unwrap_or_default() };
            let concerned = self.watch.kinds.clone();
            self.watch.hook.published(changed, &concerned, now + self.splay);
        }
        for event in begun {
            self.tally.add(Count::HookRuns, 1);
            self.hook_began(&event, published);
            if matches!(event, HookEvent::CouldNotBegin) {
                self.watch.hook.ended(false, now);
            }
        }
        let warnings = lines::take_told(lines::LONG_RUN);
        let hook = &mut self.watch.hook;
        match &mut hook.run {
            Some(run) => {
                run.warnings += warnings;
                let (warnings, span) = (run.warnings, now - run.began);
                if warnings != span.as_secs() / 60 {
                    self.fail(&format!("{warnings} warnings of a run of {span:?}"));
                }
            }
            None if hook.owed.is_some_and(|owed| now > owed + DEBOUNCE + GRACE) => {
                self.fail("the hook is not run");
            }
            None => {}
        }
    }

    fn hook_began(&mut self, event: &HookEvent, published: &BTreeMap<String, Version>) {
        let now = self.now.instant;
        let is_damaged = self.watch.disk_fault_until.is_some();
        let hook = &mut self.watch.hook;
        let (owed, retry_at) = (hook.owed.take(), hook.retry_at.take());
        let pending = std::mem::take(&mut hook.pending);
        hook.run = Some(RunWatch { began: now, told: pending.clone(), warnings: 0 });
        if owed.is_none() && !is_damaged {
            self.fail("the hook runs, and nothing is new");
        }
        if let Some(at) = retry_at.filter(|at| now < *at) {
            self.fail(&format!("the hook runs again {:?} too early", at - now));
        }
        let HookEvent::Began { changed, not_after } = event else { return };
        let told: ChangeKinds = changed.parse().unwrap_or_default();
        if pending.common(&told) != pending || told != pending && !is_damaged {
            self.fail(&format!("the hook is told of {changed}, and not of {pending}"));
        }
        let svid = published.get("svid.pem").and_then(|version| version.svid.as_ref());
        let expected = svid.map(|svid| rfc3339(svid.not_after, 0));
        if let Some(expected) = expected
            && not_after.as_ref().is_none_or(|text| *text != *expected)
        {
            self.fail(&format!("the hook is told of an SVID until {not_after:?}, and not {expected}"));
        }
    }

    /// The application is started when all is good, told once of each rotation, and runs on.
    pub(super) fn look_at_application(&mut self, changed: Option<&ChangeKinds>, is_ready: bool) {
        let now = self.now.instant;
        let (application, all_told, start_failed_at, is_over) = {
            let children = self.children.0.borrow();
            let all_told = children.renewals + children.restarts;
            (children.application.clone(), all_told, children.start_failed_at, children.exit_code.is_some())
        };
        let Some(on_renewal) = self.on_renewal() else {
            if application.is_some() {
                self.fail("an application without an application");
            }
            return;
        };
        let Some(application) = application else {
            let is_late = start_failed_at.is_none_or(|at| now > at + START_AGAIN.longest() + GRACE);
            self.watch.application.pid = None;
            self.watch.application.all_told = all_told;
            if is_ready && is_late && !is_over {
                self.fail("no application runs, though all is well");
            }
            return;
        };
        if self.watch.application.pid != Some(application.pid) {
            self.application_began(application.pid, all_told, is_ready);
            return;
        }
        let (kinds, patience) = (self.watch.kinds.clone(), self.patience());
        let is_damaged = self.watch.disk_fault_until.is_some();
        let (time, published) = (self.now, self.watch.published.clone());
        let good_since = self.watch.good_since;
        let watch = &mut self.watch.application;
        if changed.is_some_and(|changed| !changed.common(&kinds).is_empty()) {
            watch.news += 1;
            if watch.untold_since.is_none() {
                let svids = published.values().filter_map(|version| version.svid.as_ref());
                let overdue = svids.map(SvidInfo::overdue_at).max();
                watch.told_by = overdue.map(|overdue| time.instant_of(overdue));
            }
            watch.untold_since.get_or_insert(now);
        } else if changed.is_some() && is_damaged {
            // A new helper cannot tell what others have changed from what is new.
            watch.news += 1;
        }
        let told = all_told - std::mem::replace(&mut watch.all_told, all_told);
        watch.told += told;
        let is_cut_short = told > 0 && watch.may_end_until.is_some_and(|until| now < until);
        if told > 0 {
            (watch.untold_since, watch.may_end_until) = (None, None);
        }
        let can_take_since = match on_renewal {
            OnRenewal::Signal => watch.can_take_since,
            // What could not be started again is not ended.
            OnRenewal::Restart => good_since.map(|since| since.max(application.began)),
            OnRenewal::Nothing => None,
        };
        let from = [watch.untold_since, can_take_since].into_iter().collect::<Option<Vec<_>>>();
        let held_until = watch.may_end_until.map(|until| {
            let told_by = watch.told_by.map_or(until, |by| by.min(until + LONGEST_HOLD));
            until.max(told_by)
        });
        let from = from.and_then(|from| from.into_iter().chain(held_until).max());
        let (news, all) = (watch.news, watch.told);
        // Often, the pod ends just then.
        if told > 0 && on_renewal == OnRenewal::Restart && below(4) == 0 {
            self.plans.retain(|(_, event)| *event != Event::Signal);
            self.plan(Event::Signal, between(SECOND / 100, 5 * SECOND));
        }
        if told > 0 && on_renewal == OnRenewal::Restart && good_since.is_none() {
            self.fail("the application is ended, and could not be started again");
        }
        if is_cut_short {
            self.fail("the application is told of a rotation while it may be ending");
        }
        if all > if on_renewal == OnRenewal::Nothing { 0 } else { news } {
            self.fail(&format!("the application was told {all} times of {news} rotations"));
        }
        if !application.is_told_to_end && from.is_some_and(|from| now > from + patience) {
            self.fail("the application is not told of a rotation");
        }
    }

    fn application_began(&mut self, pid: Pid, all_told: u64, is_ready: bool) {
        let is_damaged = self.watch.disk_fault_until.is_some();
        let checked = check::run(&self.check, self.now).map_err(|error| error.to_string());
        if !is_ready || checked.is_err() && !is_damaged {
            self.fail(&format!("an application is started, and the files are not good: {checked:?}"));
        }
        self.watch.application = ApplicationWatch { pid: Some(pid), all_told, ..Default::default() };
        self.plans.retain(|(_, event)| *event != Event::Application);
        self.plan(Event::Application, between(Duration::from_millis(50), 20 * SECOND));
    }
}
