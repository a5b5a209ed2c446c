//! What a simulation has seen so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::agent::AUDIENCES;
use super::manners::Allowance;
use super::told::{ApplicationWatch, HookWatch};
use super::trouble::{Event, HOUR, MINUTE, Trouble};
use crate::identity::svid_info::SvidInfo;
use crate::material::{ChangeKinds, Facts};

/// How much there was.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Events,
    Turns,
    Rotations,
    Calls,
    Publications,
    Signals,
    HookRuns,
    Applications,
    Lines,
    Checks,
    Deaths,
    FullVolumes,
}

const NAMES: [&str; 12] = [
    "events",
    "turns",
    "rotations",
    "calls",
    "publications",
    "signals",
    "runs of the hook",
    "starts of the application",
    "lines",
    "checks of the files",
    "deaths in a publication",
    "full volumes",
];

/// The counts of a simulation.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) days: f64,
    counts: [u64; 12],
}

impl Tally {
    pub(super) fn add(&mut self, count: Count, more: u64) {
        self.counts[count as usize] += more;
    }

    pub(super) fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.days += other.days;
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, more)| *sum += more);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} days", self.days)?;
        self.counts.iter().zip(NAMES).try_for_each(|(count, name)| write!(f, ", {count} {name}"))
    }
}

/// Moments of the last while.
pub(super) struct Recent {
    span: Duration,
    pub(super) moments: VecDeque<Instant>,
}

impl Recent {
    pub(super) fn new(span: Duration) -> Self {
        Self { span, moments: VecDeque::new() }
    }

    pub(super) fn add(&mut self, times: u64, now: Instant) {
        (0..times).for_each(|_| self.moments.push_back(now));
    }

    pub(super) fn count(&mut self, now: Instant) -> usize {
        while self.moments.front().is_some_and(|at| *at + self.span < now) {
            self.moments.pop_front();
        }
        self.moments.len()
    }
}

/// What tells two versions of a part's files apart.
#[derive(PartialEq, Eq, Clone)]
pub(super) struct Version {
    pub(super) svid: Option<SvidInfo>,
    authorities: Vec<BTreeSet<u64>>,
    /// A digest of the file, where facts do not show all.
    pub(super) contents: u64,
}

impl Version {
    pub(super) fn of(facts: &Facts, contents: u64) -> Self {
        let authorities = facts.bundles.iter().map(|bundle| bundle.authorities.clone()).collect();
        Self { svid: facts.svid.clone(), authorities, contents }
    }

    /// The kinds of what a file has that differs from an earlier version.
    pub(super) fn changes(&self, file: &str, before: Option<&Self>) -> ChangeKinds {
        let Some(before) = before else { return kinds_of(file) };
        let is_new = [self.svid != before.svid, self.authorities != before.authorities];
        match file {
            _ if self == before => ChangeKinds::default(),
            "svid.pem" => kinds_of(file)
                .into_iter()
                .zip(is_new)
                .filter(|(_, is_new)| *is_new)
                .map(|(kind, _)| kind)
                .collect(),
            _ => kinds_of(file),
        }
    }

    /// How many CAs its bundles have.
    pub(super) fn authorities(&self) -> usize {
        self.authorities.iter().map(BTreeSet::len).sum()
    }
}

/// The kinds of what a part has, by one of its files.
pub(super) fn kinds_of(file: &str) -> ChangeKinds {
    let kinds = match file {
        "svid.pem" => "svid,bundle",
        "wit.jwt" => "wit",
        _ if file.ends_with(".jwt") => "token",
        _ => "keys",
    };
    kinds.parse().unwrap()
}

pub(super) struct Watch {
    /// By when the files of each RPC must be the newest ones.
    pub(super) fresh_by: [Instant; 5],
    /// Since a disk fault, and until it is found and mended: the helper may not know of it.
    pub(super) disk_fault_until: Option<Instant>,
    /// What is notified of.
    pub(super) kinds: ChangeKinds,
    pub(super) hook: HookWatch,
    pub(super) application: ApplicationWatch,
    /// Digests of the files.
    pub(super) contents: BTreeMap<String, u64>,
    /// Whether there was no look yet since the helper's start.
    pub(super) is_new: bool,
    /// Whether the helper has died since: what it had published and not recorded is found.
    pub(super) has_died: bool,
    pub(super) started: Instant,
    pub(super) starts: u64,
    /// What is published, part by part, and in short.
    pub(super) published_facts: Vec<(String, Facts)>,
    pub(super) published: Rc<BTreeMap<String, Version>>,
    /// What is published, or was before it was damaged.
    pub(super) known: BTreeMap<String, Version>,
    pub(super) revoked: Vec<Version>,
    pub(super) publications: u64,
    /// Those since the start that have brought nothing new.
    pub(super) needless: u64,
    pub(super) news: u64,
    pub(super) signals: u64,
    pub(super) untold_since: Option<Instant>,
    pub(super) serial: u64,
    pub(super) good_since: Option<Instant>,
    pub(super) is_event: bool,
    pub(super) trouble: Option<(Trouble, Instant)>,
    pub(super) failed: Vec<(u64, Recent)>,
    pub(super) calls: [Allowance; 5],
    /// The calls for WIT-SVIDs, and the starts, before their profile was off.
    pub(super) before_off: (u64, u64),
    pub(super) events: Recent,
    pub(super) events_of_hour: Recent,
    pub(super) severe: Recent,
    pub(super) lines: Recent,
    pub(super) publications_of_hour: Recent,
    pub(super) turns: Recent,
}

impl Watch {
    pub(super) fn new(now: Instant, kinds: ChangeKinds) -> Self {
        let minute = || Recent::new(MINUTE);
        Self {
            fresh_by: [now; 5],
            disk_fault_until: None,
            kinds,
            hook: HookWatch::default(),
            application: ApplicationWatch::default(),
            contents: BTreeMap::new(),
            is_new: true,
            has_died: false,
            started: now,
            starts: 0,
            published_facts: Vec::new(),
            published: Rc::default(),
            known: BTreeMap::new(),
            revoked: Vec::new(),
            publications: 0,
            needless: 0,
            news: 0,
            signals: 0,
            untold_since: None,
            serial: 0,
            good_since: None,
            is_event: true,
            trouble: None,
            failed: (0..6).map(|_| (0, minute())).collect(),
            calls: [(); 5].map(|()| Allowance::new(now)),
            before_off: (0, 0),
            events: minute(),
            events_of_hour: Recent::new(HOUR),
            severe: Recent::new(HOUR),
            lines: Recent::new(HOUR),
            publications_of_hour: Recent::new(HOUR),
            turns: minute(),
        }
    }

    /// Something has happened. What neither publishes nor changes files or the clock leaves the verdict as it was.
    pub(super) fn happened(&mut self, event: Event, now: Instant) {
        self.is_event |=
            matches!(event, Event::ClockStep | Event::DiskFault | Event::DiskMended | Event::Restart);
        self.calls.iter_mut().for_each(Allowance::happened);
        self.events.add(1, now);
        self.events_of_hour.add(1, now);
    }

    /// There is a new helper: it tells of what it finds.
    pub(super) fn started(&mut self, now: Instant) {
        self.started = now;
        self.starts += 1;
        self.is_new = true;
        (self.publications, self.needless, self.untold_since) = (0, 0, None);
        (self.hook, self.application) = (HookWatch::default(), ApplicationWatch::default());
        self.failed.iter_mut().for_each(|(count, _)| *count = 0);
    }

    pub(super) fn begin_trouble(&mut self, trouble: Trouble, now: Instant) {
        self.trouble = Some((trouble, now.max(self.fresh_by[0])));
    }

    /// The tokens that are published are void.
    pub(super) fn revoke_tokens(&mut self) {
        let tokens =
            self.known.iter().filter(|(file, _)| AUDIENCES.iter().any(|audience| file.starts_with(audience)));
        self.revoked = tokens.map(|(_, version)| version.clone()).collect();
    }
}
