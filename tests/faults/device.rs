//! What the kernel's file systems keep when their device stops at any moment of a publication.
//!
//! The program publishes on a file system in an image, and stands still after each system call that changes something
//! there (SIGSTOP, by strace). What the image holds then is what a device has after a loss of power: the loop driver
//! writes into the image alone, and what the file system keeps in memory is not in it. A copy is mounted, so that its
//! journal is replayed. Readers look at it as after a kill, and the program runs once more.
//!
//! Each publication is made twice. The second time, another file is written and synced before each copy: the journal
//! then has names whose data may be missing, and does not wait for the program's fsync(2).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::Call;
use super::check::State;
use super::point::{CHANGES, is_change};
use super::scenario::{Place, Scenario, Scene, Stage};
use super::volume::listing;
use super::{SHOWN, WITHOUT_STRACE, WORKERS, next, random, strace};
use crate::pod::{STOP_PATIENCE, is_root, skip};

/// What is withdrawn once it is published.
const WITHDRAWN: Scenario = Scenario::First;
/// How many states of one publication the sample has, beside the last one.
const STATES: usize = 2;

struct FileSystem {
    title: &'static str,
    mkfs: [&'static str; 2],
    megabytes: u64,
    /// With `commit=300`, nothing is written just because seconds have gone by.
    options: &'static str,
}

static FILE_SYSTEMS: [FileSystem; 4] = [
    FileSystem { title: "ext4", mkfs: ["mkfs.ext4", "-qF"], megabytes: 64, options: "commit=300" },
    FileSystem {
        title: "ext4, data=writeback,nobarrier",
        mkfs: ["mkfs.ext4", "-qF"],
        megabytes: 64,
        options: "data=writeback,nobarrier,commit=300",
    },
    FileSystem { title: "xfs", mkfs: ["mkfs.xfs", "-qf"], megabytes: 300, options: "defaults" },
    FileSystem { title: "btrfs", mkfs: ["mkfs.btrfs", "-qf"], megabytes: 110, options: "commit=300" },
];

impl FileSystem {
    fn make(&self, image: &Path) -> Result<(), String> {
        let file = File::create(image).and_then(|file| file.set_len(self.megabytes << 20));
        file.map_err(|error| error.to_string())?;
        let [mkfs, quietly] = self.mkfs;
        run(Command::new(mkfs).arg(quietly).arg(image)).map(drop)
    }

    /// Those that this machine can make and mount; says aloud which it cannot.
    fn all() -> Vec<&'static Self> {
        let stage = Stage::new();
        let works = |system: &&Self| {
            let image = stage.directory();
            let works = system.make(&image).and_then(|()| Mount::at_once(system, &image));
            works.map_err(|why| skip(&format!("{}: {why}", system.title))).is_ok()
        };
        FILE_SYSTEMS.iter().filter(works).collect()
    }
}

/// How many writes and discards a device has got, and how many requests it is at.
type Writes = [String; 3];

/// An image that is mounted; unmounted and detached when dropped.
struct Mount {
    image: PathBuf,
    directory: PathBuf,
}

impl Mount {
    /// Tries for a while: a container may have few loop devices.
    fn new(system: &FileSystem, image: &Path) -> Result<Self, String> {
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            match Self::at_once(system, image) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                result => return result,
            }
        }
    }

    fn at_once(system: &FileSystem, image: &Path) -> Result<Self, String> {
        let mount = Self { image: image.to_owned(), directory: image.with_extension("mount") };
        fs::create_dir_all(&mount.directory).map_err(|error| error.to_string())?;
        let mut command = Command::new("mount");
        command.args(["-o", &format!("loop,noatime,{}", system.options)]).arg(image).arg(&mount.directory);
        run(&mut command).map(|_| mount)
    }

    fn writes(&self) -> Result<Writes, String> {
        let device = run(Command::new("losetup").args(["-n", "-O", "NAME", "-j"]).arg(&self.image))?;
        let name = device.trim().trim_start_matches("/dev/");
        let stat =
            fs::read_to_string(format!("/sys/block/{name}/stat")).map_err(|error| error.to_string())?;
        let numbers: Vec<_> = stat.split_whitespace().collect();
        Ok([4, 11, 8].map(|index| numbers[index].to_owned()))
    }

    /// A copy made while the device was at rest, and its writes; nothing where these are as before.
    fn copy(&self, to: &Path, before: Option<&Writes>) -> Result<Option<Writes>, String> {
        loop {
            let writes = self.writes()?;
            if before == Some(&writes) {
                return Ok(None);
            }
            copy(&self.image, to)?;
            if self.writes()? == writes {
                return Ok(Some(writes));
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.directory));
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(drop)
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return Err(format!("{command:?}: {}", text(&output.stderr)));
    }
    Ok(text(&output.stdout))
}

/// What the device had at one moment.
struct Moment {
    image: PathBuf,
    /// The last call before it.
    after: String,
    is_end: bool,
}

/// What it had in the course of a publication.
#[derive(Default)]
struct Film {
    moments: Vec<Moment>,
    /// After how many calls it was looked at.
    points: usize,
    calls: usize,
    /// How many of the calls may change something.
    changes: usize,
    writes: Option<Writes>,
}

/// A publication on a file system, or the withdrawal of what was published first.
struct Experiment<'a> {
    system: &'static FileSystem,
    stage: &'a Stage,
    scene: Scene<'a>,
    is_withdrawal: bool,
    /// Whether another file is synced before each copy.
    syncs_another: bool,
}

/// Which publication: see [`Experiment`].
#[derive(Clone, Copy)]
struct Plan {
    system: &'static FileSystem,
    scenario: Scenario,
    syncs_another: bool,
}

impl Plan {
    fn all(systems: &[&'static FileSystem]) -> Vec<Self> {
        let scenarios = [WITHDRAWN, Scenario::Replacement, Scenario::Names, Scenario::Sticky];
        let of = |system| {
            scenarios.into_iter().flat_map(move |scenario| {
                [false, true].map(|syncs_another| Self { system, scenario, syncs_another })
            })
        };
        systems.iter().copied().flat_map(of).collect()
    }

    /// On a stage of its own: while an agent withdraws an identity, nobody else can have it.
    fn with<T>(self, work: impl FnOnce(&Experiment<'_>) -> T) -> T {
        let Self { system, scenario, syncs_another } = self;
        let stage = Stage::new();
        let scene = Scene::new(&stage, scenario);
        let is_withdrawal = scenario == WITHDRAWN;
        work(&Experiment { system, stage: &stage, scene, is_withdrawal, syncs_another })
    }
}

/// Kills the program unless it has ended, so that nobody waits for it.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

impl Experiment<'_> {
    fn title(&self) -> String {
        let publication = if self.is_withdrawal { "withdrawal" } else { self.scene.scenario.title() };
        format!("{}: {publication}", self.system.title)
    }

    fn place(&self, mount: &Mount) -> Place {
        Place { directory: mount.directory.join("place"), log: mount.image.with_extension("log") }
    }

    /// What is there before.
    fn start(&self) -> Result<Mount, String> {
        let (fresh, image) = (self.stage.directory(), self.stage.directory());
        self.system.make(&fresh)?;
        let mount = Mount::new(self.system, &fresh)?;
        run(Command::new("cp").arg("-a").arg(&self.scene.template).arg(mount.directory.join("place")))?;
        drop(mount);
        copy(&fresh, &image)?;
        Mount::new(self.system, &image)
    }

    /// Runs the publication with what strace injects, and copies the device at each stop that this leads to, and at
    /// the end.
    #[expect(clippy::zombie_processes, reason = "waitpid(2) waits: it tells of stops as well")]
    fn film(&self, inject: &str) -> Result<Film, String> {
        let mount = self.start()?;
        let place = self.place(&mount);
        let mut film = Film::default();
        let helper = match self.is_withdrawal {
            true => self.scene.refresh(&place, Some(inject)),
            false => self.scene.run_beside(&place, Some(inject)),
        };
        let child = helper.start_with_stderr(Stdio::null());
        let pid = Pid::from_raw(child.id() as i32);
        let (over, is_over) = channel::<()>();
        std::thread::scope(|scope| {
            if self.is_withdrawal {
                let place = &place;
                scope.spawn(move || {
                    let killed = Killed(pid);
                    self.scene.withdraw(place, || {
                        let _ = kill(pid, Signal::SIGTERM);
                        let _ = is_over.recv();
                    });
                    std::mem::forget(killed);
                });
            }
            let killed = Killed(pid);
            loop {
                match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
                    Ok(WaitStatus::Stopped(..)) => film.take(self, &mount, &place.calls(), false)?,
                    Ok(WaitStatus::Exited(_, 0)) => break,
                    other => return Err(format!("the program's end: {other:?}")),
                }
                kill(pid, Signal::SIGCONT).map_err(|error| error.to_string())?;
            }
            std::mem::forget(killed);
            drop(over);
            Ok(())
        })?;
        film.take(self, &mount, &place.calls(), true)?;
        Ok(film)
    }

    /// Mounts the device as it was at a moment: readers find a whole set, and the last one once the program has
    /// ended; and the next run puts everything right.
    fn check(&self, moment: &Moment) -> Result<State, String> {
        let mount = Mount::new(self.system, &moment.image)?;
        let place = self.place(&mount);
        let end = if self.is_withdrawal { State::Old } else { State::New };
        match self.scene.look(&place.volume()) {
            Ok(state) if moment.is_end && state != end => {
                Err(format!("the program has ended, and the set is {state:?}"))
            }
            Ok(state) => self.scene.next_run(&place).map(|()| state),
            Err(wrong) => Err(format!("{wrong}\n{:?}", listing(&place.volume()))),
        }
    }
}

/// What strace does so that the program stops after each call that may change something.
fn stops(_: &Scene<'_>) -> String {
    [&CHANGES[..], &MORE_CHANGES, &["openat"]].concat().join(",") + ":signal=STOP"
}

/// The same so that no fsync(2) does anything; where there is a withdrawal, none after the publication.
fn without_sync(scene: &Scene<'_>) -> String {
    let is_before = |call: &&Call| scene.scenario == WITHDRAWN && call.name == "fsync";
    format!("fsync:retval=0:when={}+", scene.calls.iter().filter(is_before).count() + 1)
}

impl Film {
    /// The program has stood still after each call, and at the end.
    fn assert_complete(&self) {
        assert!(self.changes > 20 && self.points == self.changes + 1, "{} of {}", self.points, self.changes);
    }

    /// Copies the device, unless no call since the last time has changed anything, or the device has got nothing.
    fn take(
        &mut self,
        experiment: &Experiment<'_>,
        mount: &Mount,
        calls: &[Call],
        is_end: bool,
    ) -> Result<(), String> {
        let is_new = calls.len() > std::mem::replace(&mut self.calls, calls.len());
        let Some(call) = calls.last().filter(|call| is_end || is_new && may_change(call)) else {
            return Ok(());
        };
        self.points += 1;
        self.changes = calls.iter().filter(|call| may_change(call)).count();
        if experiment.syncs_another {
            let another = File::create(mount.directory.join("another"));
            let synced = another.and_then(|mut file| file.write_all(b"another").and(file.sync_all()));
            synced.map_err(|error| error.to_string())?;
        }
        let image = experiment.stage.directory();
        if let Some(writes) = mount.copy(&image, self.writes.as_ref().filter(|_| !is_end))? {
            self.writes = Some(writes);
            self.moments.push(Moment { image, after: call.line.clone(), is_end });
        }
        Ok(())
    }
}

fn may_change(call: &Call) -> bool {
    is_change(call) || MORE_CHANGES.contains(&call.name.as_str())
}

/// Beside those of [`CHANGES`].
const MORE_CHANGES: [&str; 3] = ["write", "ftruncate", "fchownat"];

/// What was found on one file system.
#[derive(Default)]
struct Row {
    points: usize,
    states: BTreeMap<State, usize>,
    time: Duration,
}

/// What was found on each, by its title.
type Rows = BTreeMap<&'static str, Row>;

/// Makes these publications, several at a time, and checks the moments that `choose` leaves; also returns failures.
fn try_all(
    plans: &[Plan],
    inject: fn(&Scene<'_>) -> String,
    choose: impl Fn(&mut Film) + Sync,
) -> (Rows, Vec<String>) {
    let (queue, found) = (Mutex::new(plans.iter()), Mutex::new((Rows::new(), Vec::new())));
    let attempt = |experiment: &Experiment<'_>| {
        let (title, started) = (experiment.title(), Instant::now());
        let film = experiment.film(&inject(&experiment.scene));
        let mut film = film.unwrap_or_else(|why| panic!("{title}: {why}"));
        choose(&mut film);
        let Film { moments, points, .. } = film;
        let checked: Vec<_> = moments.iter().map(|moment| experiment.check(moment)).collect();
        let (rows, failures) = &mut *found.lock().expect("no panic");
        let row = rows.entry(experiment.system.title).or_default();
        row.points += points;
        row.time += started.elapsed();
        for (moment, checked) in moments.iter().zip(checked) {
            match checked {
                Ok(state) => *row.states.entry(state).or_default() += 1,
                Err(wrong) => failures.push(format!("{title}: after {}\n{wrong}", moment.after)),
            }
        }
    };
    let work = || {
        while let Some(plan) = next(&queue) {
            plan.with(attempt);
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| _ = scope.spawn(work)));
    found.into_inner().expect("no panic")
}

fn assert_none(failures: &[String]) {
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} failures:\n{shown}", failures.len());
}

/// The file systems, where such a test can run.
fn systems() -> Vec<&'static FileSystem> {
    if !strace::works() || !is_root() {
        skip(&format!("{WITHOUT_STRACE}; or this is not root, and mounts nothing"));
        return Vec::new();
    }
    FileSystem::all()
}

#[test]
fn at_a_sample_of_moments_a_device_that_stops_leaves_a_whole_set() {
    let mut random = random();
    let mut any_of = |mut plans: Vec<Plan>| plans.swap_remove(random(plans.len()));
    let plans: Vec<_> = systems().into_iter().map(|system| any_of(Plan::all(&[system]))).collect();
    let random = Mutex::new(random);
    let (_, failures) = try_all(&plans, stops, |film| {
        film.assert_complete();
        let moments = &mut film.moments;
        let end = moments.pop();
        let mut random = random.lock().expect("no panic");
        while moments.len() > STATES {
            moments.swap_remove(random(moments.len()));
        }
        moments.extend(end);
    });
    assert_none(&failures);
}

#[test]
#[ignore = "takes a minute: make faults"]
fn at_every_moment_a_device_that_stops_leaves_a_whole_set() {
    let (rows, failures) = try_all(&Plan::all(&systems()), stops, |film| film.assert_complete());
    println!("\n| file system | points | states | old set | between | new set | seconds of a worker |");
    println!("|{}", " --- |".repeat(7));
    for (title, Row { points, states, time }) in rows {
        let [old, between, new] = [State::Old, State::Between, State::New]
            .map(|state| states.get(&state).copied().unwrap_or_default());
        let (all, time) = (old + between + new, time.as_secs());
        println!("| {title} | {points} | {all} | {old} | {between} | {new} | {time} |");
    }
    assert_none(&failures);
}

#[test]
fn without_fsync_a_device_that_stops_is_found_to_lack_the_last_set() {
    // Where another file is synced, a journal may have the whole withdrawal.
    let is_lost = |plan: &Plan| match plan.scenario {
        WITHDRAWN => !plan.syncs_another,
        scenario => scenario == Scenario::Replacement,
    };
    let plans: Vec<_> = Plan::all(&systems()).into_iter().filter(is_lost).collect();
    let (_, failures) = try_all(&plans, without_sync, |_| {});
    let shown = failures.join("\n\n");
    let is_known = |failure: &String| failure.contains("the set is ") || failure.contains("are of no set");
    assert_eq!(failures.iter().filter(|failure| is_known(failure)).count(), plans.len(), "{shown}");
}
