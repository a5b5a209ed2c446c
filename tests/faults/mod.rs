//! What the program leaves when it dies, or when a system call fails, at any moment of a publication.
//!
//! A *point* is one system call of the program that touches the volume, and what becomes of it: the
//! program is killed at its entry, or the call fails with an error. strace(1) does either; it follows the
//! main thread alone, which makes all calls of this kind, so that a call is known by its number. A good
//! run is recorded first, so that each of its calls is tried.
//!
//! After each point the volume is looked at (see `check.rs`), and the program runs once more.
//!
//! A kill shows the order in which the program acts. What a disk keeps of it after a loss of power is in `power.rs`,
//! by a model, and in `device.rs`, on file systems of the kernel.
//!
//! `make test` tries a sample, `make faults` every point, and prints how many there were. FAULTS_SEED=NUMBER
//! chooses the sample, FAULTS_SCENARIO=WORD the publications with that word in their title.

mod calls;
mod check;
mod device;
mod disk;
mod errors;
mod losses;
mod order;
mod point;
mod power;
mod scenario;
mod strace;
mod table;
mod volume;

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use point::Point;
use scenario::{Scene, Stage};
use table::Table;

use crate::soak::plan::Random;

/// How many points the sample has.
const SAMPLE: usize = 80;
/// How many points are tried at once: most of the time goes by in waiting for the next attempt.
const WORKERS: usize = 4;
const WITHOUT_STRACE: &str = "strace is not here (apt-get install strace), or may not trace";
/// After how many points the test says so.
const PROGRESS: usize = 500;
/// How many failures are shown.
const SHOWN: usize = 20;

#[test]
fn at_a_sample_of_system_calls_a_crash_or_an_error_leaves_a_whole_set() {
    if !strace::works() {
        return crate::pod::skip(WITHOUT_STRACE);
    }
    let mut random = random();
    let stage = Stage::new();
    let scenes = stage.scenes();
    let mut points = points(&scenes);
    let sample: Vec<_> = (0..SAMPLE).map(|_| points.swap_remove(random(points.len()))).collect();
    let table = try_all(&sample);
    assert_eq!(table.tried(), SAMPLE);
}

#[test]
#[ignore = "takes minutes: make faults"]
fn at_every_system_call_a_crash_or_an_error_leaves_a_whole_set() {
    assert!(strace::works(), "{WITHOUT_STRACE}");
    let stage = Stage::new();
    let scenes = stage.scenes();
    let points = points(&scenes);
    let table = try_all(&points);
    println!("\n{table}");
    assert_eq!(table.tried(), points.len());
    let calls: usize = scenes.iter().map(|scene| scene.calls.len()).sum();
    assert_eq!(table.killed(), calls, "killed at fewer system calls than the program makes");
}

#[test]
fn what_is_published_is_on_disk_before_a_name_leads_to_it() {
    if !strace::works() {
        return crate::pod::skip(WITHOUT_STRACE);
    }
    let stage = Stage::new();
    for scene in stage.scenes() {
        let faults = order::faults(&scene.calls);
        assert!(faults.is_empty(), "{}:\n{}", scene.scenario.title(), faults.join("\n"));
        let written = order::files_written(&scene.calls);
        assert!(written >= scene.new.len(), "{}: {written} files written", scene.scenario.title());
    }
}

#[test]
fn a_file_that_is_written_in_part_is_never_published() {
    if !strace::works() {
        return crate::pod::skip(WITHOUT_STRACE);
    }
    let stage = Stage::new();
    for scene in stage.scenes() {
        let place = scene.place();
        // The limit is between the lengths of two files: the longer one is written up to it.
        let limited = scene.run_freely(&place).through("/bin/sh", &["-c", "ulimit -f 1; exec \"$0\" \"$@\""]);
        limited.variable("HELPER_INIT_TIMEOUT", "1s").finish().failed_with(&["File too large"]);
        assert_eq!(scene.look(&place.volume()), Ok(check::State::Old), "{}", scene.scenario.title());
        assert_eq!(scene.next_run(&place), Ok(()), "{}", scene.scenario.title());
    }
}

/// Draws numbers below another, by FAULTS_SEED or by the time.
fn random() -> impl FnMut(usize) -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = match std::env::var("FAULTS_SEED") {
        Ok(seed) => seed.parse().expect("a number in FAULTS_SEED"),
        Err(_) => now.as_nanos() as u64,
    };
    eprintln!("the sample's seed: FAULTS_SEED={seed}");
    let mut random = Random::new(seed);
    move |end| random.below(end as u64) as usize
}

/// Every point of these scenes.
fn points<'a>(scenes: &'a [Scene<'a>]) -> Vec<Point<'a>> {
    scenes.iter().flat_map(Point::all).collect()
}

/// Tries points; fails with the way to repeat each.
fn try_all(points: &[Point<'_>]) -> Table {
    let table = Mutex::new(Table::default());
    all_succeed(points, "points", |point| {
        let outcome = point.attempt().map_err(|failure| format!("{point}\n{failure}"))?;
        table.lock().expect("no panic").count(point, outcome);
        Ok(())
    });
    table.into_inner().expect("no panic")
}

/// Tries all, several at a time; fails with the first failures.
fn all_succeed<T: Sync>(all: &[T], what: &str, attempt: impl Fn(&T) -> Result<(), String> + Sync) {
    let (queue, failures) = (Mutex::new(all.iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((index, one)) = next(&queue) {
            if index % PROGRESS == 0 {
                eprintln!("{index} of {} {what}", all.len());
            }
            if let Err(failure) = attempt(one) {
                failures.lock().expect("no panic").push(failure);
            }
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| _ = scope.spawn(work)));
    let failures = failures.into_inner().expect("no panic");
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {} {what} failed:\n{shown}", failures.len(), all.len());
}

/// Not in the condition of a loop: the lock would be held all through it.
fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().expect("no panic").next()
}
