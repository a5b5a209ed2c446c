//! What a disk may show after a loss of power at any moment of a publication: see `losses.rs`.
//!
//! Each such state is made from the calls of a good run, in a directory of its own. Readers look at it as after a
//! kill, and the program runs once more.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use super::calls::Call;
use super::check::State;
use super::disk::{Operation, Recording};
use super::losses::{Loss, Model, losses};
use super::scenario::{Place, Scenario, Scene, Stage};
use super::volume::listing;
use super::{WITHOUT_STRACE, all_succeed, random, strace};
use crate::pod::skip;

/// How many moments of each publication the sample has beside the last one, and how many states in all.
const MOMENTS: usize = 2;
const STATES: usize = 8;

/// A publication, and what it leaves.
struct Publication<'a> {
    title: String,
    scene: &'a Scene<'a>,
    recording: Recording,
    /// The first moment that others have not.
    start: usize,
    end: State,
}

/// What a disk may show, and a loss of power that leads to it.
struct Case<'a> {
    publication: &'a Publication<'a>,
    loss: Loss,
}

impl<'a> Publication<'a> {
    fn new(title: &str, scene: &'a Scene<'a>, calls: &[Call], end: State) -> Self {
        let publication =
            Self { title: title.to_owned(), scene, recording: Recording::of(scene, calls), start: 0, end };
        // Where nothing is lost, the disk shows what the run has left.
        let place = publication.with_all().place();
        assert_eq!(scene.look(&place.volume()), Ok(end), "{title}");
        if end == State::New {
            assert_eq!(listing(&place.volume()), scene.listing, "{title}");
        }
        publication
    }

    /// That of a scene, or the withdrawal of what was published first; and the same by a program that is killed as
    /// soon as `..data` has changed, and by the next one.
    fn pair(title: &str, scene: &'a Scene<'a>, calls: &[Call], end: State) -> [Self; 2] {
        let (calls_of_both, start) = killed(scene, calls);
        let killed = Self::new(&format!("{title}, killed"), scene, &calls_of_both, State::New);
        [Self::new(title, scene, calls, end), Self { start, ..killed }]
    }

    fn withdrawals(scenes: &'a [Scene<'a>]) -> impl Iterator<Item = Self> {
        let scenes = scenes.iter().filter(|scene| scene.scenario == Scenario::First);
        scenes.flat_map(|scene| Self::pair("withdrawal", scene, &scene.withdrawal(), State::Old))
    }

    fn all(scenes: &'a [Scene<'a>]) -> Vec<Self> {
        let of = |scene: &'a Scene<'a>| Self::pair(scene.scenario.title(), scene, &scene.calls, State::New);
        scenes.iter().flat_map(of).chain(Self::withdrawals(scenes)).collect()
    }

    fn moments(&self) -> RangeInclusive<usize> {
        self.start..=self.end()
    }

    fn end(&self) -> usize {
        self.recording.operations.len()
    }

    fn with_all(&'a self) -> Case<'a> {
        Case { publication: self, loss: Loss { moment: self.end(), fates: Vec::new() } }
    }

    /// The states at these moments that differ, and how many each model has.
    fn cases(&'a self, moments: impl Iterator<Item = usize> + Clone) -> (Vec<Case<'a>>, [usize; 2]) {
        let mut cases = BTreeMap::new();
        let counts = Model::ALL.map(|model| {
            let mut states = HashSet::new();
            for loss in moments.clone().flat_map(|moment| losses(&self.recording, model, moment)) {
                let state = (loss.disk(&self.recording).hash(), loss.moment == self.end());
                states.insert(state);
                cases.entry(state).or_insert(Case { publication: self, loss });
            }
            states.len()
        });
        (cases.into_values().collect(), counts)
    }

    fn without_sync(mut self) -> Self {
        self.recording.operations.retain(|operation| !matches!(operation, Operation::Sync(_)));
        self
    }
}

/// The calls of a run that is killed once `..data` has changed for the last time, and of the next run; and how many
/// operations the first one has made.
fn killed(scene: &Scene<'_>, calls: &[Call]) -> (Vec<Call>, usize) {
    let changes_data = |call: &Call| match call.name.as_str() {
        "renameat" => call.about[3] == "..data",
        "unlinkat" => call.about[1] == "..data",
        _ => false,
    };
    let last = calls.iter().rposition(changes_data).expect("a change of ..data");
    let mut calls = calls[..=last].to_vec();
    let recording = Recording::of(scene, &calls);
    let loss = Loss { moment: recording.operations.len(), fates: Vec::new() };
    let place = scene.no_place();
    loss.disk(&recording).write(&place.directory);
    scene.run(&place, None).finish().succeeded();
    calls.extend(place.calls());
    (calls, loss.moment)
}

impl Case<'_> {
    fn place(&self) -> Place {
        let place = self.publication.scene.no_place();
        self.loss.disk(&self.publication.recording).write(&place.directory);
        place
    }

    /// Readers see a whole set, and the last one once the program has ended.
    fn read(&self) -> Result<Place, String> {
        let Publication { scene, end, .. } = self.publication;
        let place = self.place();
        match scene.look(&place.volume()) {
            Ok(state) if state != *end && self.loss.moment == self.publication.end() => {
                Err(format!("the program has ended, and the set is {state:?}"))
            }
            Ok(_) => Ok(place),
            Err(wrong) => Err(format!("{wrong}\n{:?}", listing(&place.volume()))),
        }
    }

    fn check(&self) -> Result<(), String> {
        let Publication { title, scene, recording, .. } = self.publication;
        let checked = self.read().and_then(|place| scene.next_run(&place));
        checked.map_err(|wrong| format!("{title}: {}\n{wrong}", self.loss.describe(recording)))
    }
}

#[test]
fn at_a_sample_of_moments_a_loss_of_power_leaves_a_whole_set() {
    if !strace::works() {
        return skip(WITHOUT_STRACE);
    }
    let (mut random, stage) = (random(), Stage::new());
    let scenes = stage.scenes();
    let publications = Publication::all(&scenes);
    let mut sample = Vec::new();
    for publication in &publications {
        let end = publication.end();
        let moments: Vec<_> =
            (0..MOMENTS).map(|_| publication.start + random(end - publication.start)).chain([end]).collect();
        let (mut cases, _) = publication.cases(moments.into_iter());
        sample.extend((0..STATES.min(cases.len())).map(|_| cases.swap_remove(random(cases.len()))));
    }
    all_succeed(&sample, "states", Case::check);
}

#[test]
#[ignore = "takes minutes: make faults"]
fn at_every_moment_a_loss_of_power_leaves_a_whole_set() {
    assert!(strace::works(), "{WITHOUT_STRACE}");
    let stage = Stage::new();
    let scenes = stage.scenes();
    let publications = Publication::all(&scenes);
    let mut cases = Vec::new();
    let mut table =
        "| publication | POSIX: states | in order: states | in all |\n| --- | --- | --- | --- |".to_owned();
    for publication in &publications {
        let (found, [posix, ordered]) = publication.cases(publication.moments());
        table += &format!("\n| {} | {posix} | {ordered} | {} |", publication.title, found.len());
        cases.extend(found);
    }
    println!("\n{table}\n| all | | | {} |", cases.len());
    all_succeed(&cases, "states", Case::check);
}

#[test]
fn at_every_moment_of_a_withdrawal_a_loss_of_power_leaves_a_whole_set_or_none() {
    if !strace::works() {
        return skip(WITHOUT_STRACE);
    }
    let stage = Stage::new();
    let scenes = stage.scenes();
    for publication in Publication::withdrawals(&scenes) {
        let (cases, _) = publication.cases(publication.moments());
        let broken = cases.iter().filter_map(|case| case.read().err()).collect::<Vec<_>>();
        assert!(
            broken.is_empty(),
            "{}: {} of {}: {}",
            publication.title,
            broken.len(),
            cases.len(),
            broken[0]
        );
    }
}

#[test]
fn without_fsync_a_loss_of_power_is_found_to_leave_broken_sets() {
    if !strace::works() {
        return skip(WITHOUT_STRACE);
    }
    let stage = Stage::new();
    let scenes = stage.scenes();
    for scene in &scenes {
        let publication =
            Publication::new(scene.scenario.title(), scene, &scene.calls, State::New).without_sync();
        let losses = losses(&publication.recording, Model::Posix, publication.end());
        let is_broken =
            |loss| scene.look(&Case { publication: &publication, loss }.place().volume()).is_err();
        let count = losses.len();
        assert!(losses.into_iter().any(is_broken), "{}: none of {count} losses", publication.title);
    }
}
