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
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls::Call;
use crate::check::State;
use crate::pod::{is_root, skip};
use crate::point::CHANGES;
use crate::scenario::{Place, Scenario, Scene, Stage};
use crate::volume::listing;
use crate::{SHOWN, WITHOUT_STRACE, WORKERS, next, random, strace};

/// How many states of one publication the sample has, beside the last one.
const STATES: usize = 2;

struct FileSystem {
    title: &'static str,
    kind: &'static str,
    quietly: &'static str,
    size: u64,
    /// With `commit=300`, nothing is written just because time goes by.
    options: &'static str,
}

static FILE_SYSTEMS: [FileSystem; 4] = [
    FileSystem { title: "ext4", kind: "ext4", quietly: "-qF", size: 64 << 20, options: "loop,noatime" },
    FileSystem {
        title: "ext4, data=writeback,nobarrier",
        kind: "ext4",
        quietly: "-qF",
        size: 64 << 20,
        options: "loop,noatime,data=writeback,nobarrier,commit=300",
    },
    FileSystem { title: "xfs", kind: "xfs", quietly: "-qf", size: 300 << 20, options: "loop,noatime" },
    FileSystem {
        title: "btrfs",
        kind: "btrfs",
        quietly: "-qf",
        size: 110 << 20,
        options: "loop,noatime,commit=300",
    },
];

impl FileSystem {
    fn make(&self, image: &Path) -> Result<(), String> {
        File::create(image).and_then(|file| file.set_len(self.size)).map_err(|error| error.to_string())?;
        run(Command::new(format!("mkfs.{}", self.kind)).arg(self.quietly).arg(image)).map(drop)
    }

    /// Those that this machine can make and mount; says aloud which it cannot.
    fn all() -> Vec<&'static Self> {
        let stage = Stage::new();
        let works = |system: &&Self| {
            let image = stage.directory();
            let works = system.make(&image).and_then(|()| Mount::new(system, &image));
            works.map_err(|why| skip(&format!("{}: {why}", system.title))).is_ok()
        };
        FILE_SYSTEMS.iter().filter(works).collect()
    }
}

/// An image that is mounted; unmounted and detached when dropped.
struct Mount {
    image: PathBuf,
    directory: PathBuf,
}

impl Mount {
    fn new(system: &FileSystem, image: &Path) -> Result<Self, String> {
        let mount = Self { image: image.to_owned(), directory: image.with_extension("mount") };
        fs::create_dir_all(&mount.directory).map_err(|error| error.to_string())?;
        let mut command = Command::new("mount");
        command.args(["-t", system.kind, "-o", system.options]).arg(image).arg(&mount.directory);
        run(&mut command).map(|_| mount)
    }

    /// How many writes and discards the device has got, and how many requests it is at.
    fn writes(&self) -> Result<[String; 3], String> {
        let device = run(Command::new("losetup").args(["-n", "-O", "NAME", "-j"]).arg(&self.image))?;
        let name = device.trim().trim_start_matches("/dev/");
        let stat =
            fs::read_to_string(format!("/sys/block/{name}/stat")).map_err(|error| error.to_string())?;
        let numbers: Vec<_> = stat.split_whitespace().collect();
        Ok([4, 11, 8].map(|index| numbers[index].to_owned()))
    }

    /// A copy made while the device was at rest, and its writes; nothing where these are as before.
    fn copy(&self, to: &Path, before: Option<&[String; 3]>) -> Result<Option<[String; 3]>, String> {
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

/// A publication on a file system, or the withdrawal of what was published first.
struct Experiment<'a> {
    system: &'static FileSystem,
    stage: &'a Stage,
    scene: Scene<'a>,
    is_withdrawal: bool,
    /// Whether another file is synced before each copy.
    syncs_another: bool,
}

/// Which publication: see [`Experiment`]. A first publication comes before its withdrawal.
#[derive(Clone, Copy)]
struct Plan {
    system: &'static FileSystem,
    scenario: Scenario,
    syncs_another: bool,
}

impl Plan {
    fn all(systems: &[&'static FileSystem]) -> Vec<Self> {
        let scenarios = [Scenario::First, Scenario::Replacement, Scenario::Names, Scenario::Sticky];
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
        let is_withdrawal = scenario == Scenario::First;
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
    /// the end; returns how many calls there were, and the states.
    fn states(&self, inject: &str) -> Result<(usize, Vec<Moment>), String> {
        let mount = self.start()?;
        let place = self.place(&mount);
        let (mut moments, mut writes, mut seen, mut points) = (Vec::new(), None, 0, 0);
        let mut take = |is_end| {
            let calls = place.calls();
            let is_new = calls.len() > seen;
            seen = calls.len();
            let Some(call) = calls.last().filter(|call| is_end || is_new && changes(call)) else {
                return Ok(());
            };
            points += 1;
            if self.syncs_another {
                let another = File::create(mount.directory.join("another"));
                let synced = another.and_then(|mut file| file.write_all(b"another").and(file.sync_all()));
                synced.map_err(|error| error.to_string())?;
            }
            let image = self.stage.directory();
            if let Some(copied) = mount.copy(&image, writes.as_ref().filter(|_| !is_end))? {
                writes = Some(copied);
                moments.push(Moment { image, after: call.line.clone(), is_end });
            }
            Ok::<_, String>(())
        };
        let helper = match self.is_withdrawal {
            true => self.scene.refresh(&place, Some(inject)),
            false => self.scene.run_beside(&place, Some(inject)),
        };
        let child = helper.start_with_stderr(Stdio::null());
        let pid = Pid::from_raw(child.id() as i32);
        let ended = std::thread::scope(|scope| {
            let killed = Killed(pid);
            let (over, is_over) = std::sync::mpsc::channel::<()>();
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
            loop {
                match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
                    Ok(WaitStatus::Stopped(..)) => take(false)?,
                    Ok(WaitStatus::Exited(_, 0)) => break,
                    other => return Err(format!("the program's end: {other:?}")),
                }
                kill(pid, Signal::SIGCONT).map_err(|error| error.to_string())?;
            }
            std::mem::forget(killed);
            drop(over);
            Ok(())
        });
        ended.and_then(|()| take(true))?;
        Ok((points, moments))
    }

    /// Mounts the device as it was at a moment, and looks at it.
    fn look(&self, moment: &Moment) -> Result<(Place, Mount, State), String> {
        let mount = Mount::new(self.system, &moment.image)?;
        let place = self.place(&mount);
        let end = if self.is_withdrawal { State::Old } else { State::New };
        match self.scene.look(&place.volume()) {
            Ok(state) if moment.is_end && state != end => {
                Err(format!("the program has ended, and the set is {state:?}"))
            }
            Ok(state) => Ok((place, mount, state)),
            Err(wrong) => Err(format!("{wrong}\n{:?}", listing(&place.volume()))),
        }
    }

    fn check(&self, moment: &Moment) -> Result<State, String> {
        let checked = self.look(moment).and_then(|(place, _mount, state)| {
            self.scene.next_run(&place)?;
            Ok(state)
        });
        let _ = fs::remove_file(&moment.image);
        let title = if self.is_withdrawal { "withdrawal" } else { self.scene.scenario.title() };
        checked.map_err(|wrong| {
            let when = if moment.is_end { "at the end" } else { "after" };
            format!("{}: {title}: {when}: {}\n{wrong}", self.system.title, moment.after)
        })
    }
}

fn changes(call: &Call) -> bool {
    MORE_CHANGES.contains(&call.name.as_str())
        || CHANGES.contains(&call.name.as_str())
        || call.line.contains("O_CREAT")
}

/// Beside those that lead to an error that is logged.
const MORE_CHANGES: [&str; 3] = ["write", "ftruncate", "fchownat"];

/// Stops the program at the end of each call that may change something.
fn stops() -> String {
    [&CHANGES[..], &MORE_CHANGES, &["openat"]].concat().join(",") + ":signal=STOP"
}

/// What was found on one file system.
#[derive(Default)]
struct Row {
    points: usize,
    states: BTreeMap<State, usize>,
    time: Duration,
}

/// Makes these publications, several at a time, and checks the states that `choose` leaves.
fn try_all(plans: &[Plan], choose: impl Fn(&mut Vec<Moment>) + Sync) -> BTreeMap<&'static str, Row> {
    let (queue, rows) = (Mutex::new(plans.iter()), Mutex::new(BTreeMap::<_, Row>::new()));
    let failures = Mutex::new(Vec::new());
    let attempt = |experiment: &Experiment<'_>| {
        let started = Instant::now();
        let (points, mut moments) = experiment.states(&stops())?;
        choose(&mut moments);
        let states: Vec<_> = moments.iter().map(|moment| experiment.check(moment)).collect();
        let mut rows = rows.lock().expect("no panic");
        let row = rows.entry(experiment.system.title).or_default();
        row.points += points;
        row.time += started.elapsed();
        for state in states {
            match state {
                Ok(state) => *row.states.entry(state).or_default() += 1,
                Err(failure) => failures.lock().expect("no panic").push(failure),
            }
        }
        Ok::<_, String>(())
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(plan) = next(&queue) {
                    if let Err(failure) = plan.with(attempt) {
                        failures.lock().expect("no panic").push(format!("{}: {failure}", plan.system.title));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} failures:\n{shown}", failures.len());
    rows.into_inner().expect("no panic")
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
    let (mut random, systems) = (random(), systems());
    let plans = Plan::all(&systems);
    let of_each = plans.chunks(plans.len() / systems.len().max(1) + usize::from(systems.is_empty()));
    let plans: Vec<_> = of_each.map(|plans| plans[random() % plans.len()]).collect();
    let random = Mutex::new(random);
    try_all(&plans, |moments| {
        let end = moments.pop();
        let mut random = random.lock().expect("no panic");
        while moments.len() > STATES {
            moments.swap_remove(random() % moments.len());
        }
        moments.extend(end);
    });
}

#[test]
#[ignore = "takes minutes: make faults"]
fn at_every_moment_a_device_that_stops_leaves_a_whole_set() {
    let rows = try_all(&Plan::all(&systems()), |_| {});
    println!("\n| file system | points | states | old set | between | new set | seconds of a worker |");
    println!("|{}", " --- |".repeat(7));
    for (title, Row { points, states, time }) in rows {
        let [old, between, new] = [State::Old, State::Between, State::New]
            .map(|state| states.get(&state).copied().unwrap_or_default());
        let (all, time) = (old + between + new, time.as_secs());
        println!("| {title} | {points} | {all} | {old} | {between} | {new} | {time} |");
    }
}

#[test]
fn without_fsync_a_device_that_stops_is_found_to_leave_no_whole_set() {
    let systems = systems();
    let mut found = Vec::new();
    for plan in Plan::all(&systems).into_iter().filter(|plan| plan.scenario == Scenario::Replacement) {
        plan.with(|experiment| {
            let (_, moments) = experiment.states("fsync,fdatasync:retval=0").expect("a run");
            let wrong = moments.iter().filter_map(|moment| experiment.look(moment).err());
            found.extend(wrong.map(|wrong| format!("{}: {wrong}", plan.system.title)));
        });
    }
    assert!(systems.is_empty() || !found.is_empty(), "whole sets alone");
    println!("{}", found.join("\n"));
}
