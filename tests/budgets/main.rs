//! Measures the release binary against the test server, and prints each figure beside its budget.
//!
//! `make bench` prints for each row the median, the 99th percentile (of fewer than 100 runs, the maximum) and the
//! number of runs. With `JSON=FILE`, the rows are in that file too.
//!
//! `PEER='NAME=COMMAND'` adds a column for another program, measured in the same run, in turns (A B A B). The
//! command is split at spaces; `{socket}` and `{directory}` stand for the agent's socket and for a directory
//! that is there and empty, `{mode}` for `init`, `refresh` or `check`. Without `{mode}`, the program runs
//! until it is told to end, and has no figures for init and check. `{options}` stands for the options of this
//! program that a row needs (`--include-federated-bundles`, say); without it, those rows have no figures for
//! the peer. An update is there when a file of the directory holds the new certificate as PEM. A second build
//! of this program, for instance:
//!
//! ```text
//! PEER='old=/tmp/old --mode={mode} --workload-api-socket={socket} --svid-path={directory} {options}'
//! ```
//!
//! Figures are of this machine, at this moment. What is not within its budget is measured again, if other
//! programs have used the processors meanwhile. If a budget is not met then, it fails.

mod away;
mod full;
mod pod;
mod subject;
mod table;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use away::{Logs, recoveries, silence};
use full::full_node;
use pod::Pod;
use subject::{Figures, Running, Subject};
use table::{Row, Table, Work, milliseconds};

const KEYSTORES: [&str; 2] = ["--keystore-file-name=svid.p12", "--truststore-file-name=trust.p12"];
const EVERYTHING: [&str; 11] = [
    "--layout=pem,spiffe",
    "--combined-file-name=combined.pem",
    "--include-federated-bundles",
    "--jwt-svid=token.jwt=audience",
    "--jwt-bundle-file-name=jwks.json",
    "--wit-svid-file-name=wit.jwt",
    "--wit-key-file-name=wit.jwk",
    "--wit-bundle-file-name=wit.json",
    "--bundle-map-file-name=map.json",
    "--crl-file-name=crl.pem",
    "--http-address=127.0.0.1:39461",
];

const STARTS: usize = 40;
const UPDATES: usize = 200;
const FEW_UPDATES: usize = 30;
const SILENCES: usize = 20;
const STOPS: usize = 10;
const MEMORIES: usize = 5;
const NODE: usize = 20;
const IDLE: Duration = Duration::from_secs(20);
/// After a start, until the state that is measured.
const SETTLING: Duration = Duration::from_secs(1);
/// Between two updates: more of them are a flood.
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let subjects = Subject::all();
    let mut table = Table::new(subjects.iter().map(|subject| subject.name.clone()), Work::look);
    let memory = Path::new("/dev/shm");
    let memory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let logs = Logs::begin(&subjects, &memory);
    table.measure(|table| size(table, &subjects));
    for measure in [starts, idle, node, full_node, updates, updates_after_silence, more_memory, recoveries] {
        table.measure(|table| measure(table, &subjects, &memory));
    }
    table.measure(|table| silence(table, &subjects[0], &memory));
    table.measure(|table| logs.end(table));
    for measure in [limits, ends] {
        table.measure(|table| measure(table, &subjects[0], &memory));
    }
    table.write_json();
    match table.end() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn size(table: &mut Table, subjects: &[Subject]) {
    let mut row = Row::new("binary, MiB").within(5.0);
    subjects.iter().for_each(|subject| row.add(&subject.name, subject.size()));
    table.add(row);
}

/// Processes that end by themselves, and the time until a refresh has written.
fn starts(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let pod = Pod::in_directory(memory);
    let _agent = pod.agent();
    let mut init = Row::new("init, start to exit, ms").within(5.0);
    let mut check = Row::new("check, start to exit, ms").within(10.0);
    let mut first = Row::new("refresh, start to files, ms");
    for _ in 0..STARTS {
        for subject in subjects {
            pod.clear();
            if subject.has_modes() {
                init.add(&subject.name, subject.time(&pod, "init", &[]));
                check.add(&subject.name, subject.time(&pod, "check", &[]));
            }
            pod.clear();
            let start = Instant::now();
            let running = subject.refresh(&pod, &[]);
            pod.wait_for_files();
            first.add(&subject.name, milliseconds(start));
            drop(running);
        }
    }
    table.add(init);
    for (what, options) in [("both keystores", &KEYSTORES[..]), ("everything on", &everything()[1..])] {
        let mut row = Row::new(&format!("init with {what}, ms"));
        for _ in 0..STARTS {
            for subject in subjects.iter().filter(|subject| subject.has_modes() && subject.has_options()) {
                pod.clear();
                row.add(&subject.name, subject.time(&pod, "init", options));
            }
        }
        table.add(row);
    }
    table.add(check);
    table.add(first);
}

/// All that can be on; the HTTP address comes first, since init does not take it.
fn everything() -> Vec<&'static str> {
    let [rest @ .., http] = EVERYTHING;
    [&[http], &rest[..], &KEYSTORES[..]].concat()
}

fn idle(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let pods: Vec<_> = subjects.iter().map(|_| Pod::in_directory(memory)).collect();
    let _agents: Vec<_> = pods.iter().map(Pod::agent).collect();
    let mut rows = idle_rows("three files");
    for _ in 0..2 {
        for (subject, pod) in subjects.iter().zip(&pods) {
            measure_idle(&mut rows, &subject.name, &subject.refresh(pod, &[]));
        }
    }
    rows.into_iter().for_each(|row| table.add(row));
    let mut rows = idle_rows("everything on");
    for (subject, pod) in subjects.iter().zip(&pods).filter(|(subject, _)| subject.has_options()) {
        measure_idle(&mut rows, &subject.name, &subject.refresh(pod, &everything()));
    }
    rows.into_iter().for_each(|row| table.add(row));
}

fn idle_rows(what: &str) -> [Row; 6] {
    let row = |figure: &str| Row::new(&format!("idle, {what}: {figure}"));
    [
        row("resident memory, MiB").within(5.0),
        row("proportional share, MiB"),
        row("anonymous memory, MiB"),
        row("threads"),
        row("context switches a second").within(0.1),
        row("CPU an hour, ms").within(10.0),
    ]
}

fn measure_idle(rows: &mut [Row; 6], name: &str, running: &Running) {
    sleep(SETTLING);
    let before = Figures::of(running);
    sleep(IDLE);
    let after = Figures::of(running);
    let seconds = IDLE.as_secs_f64();
    let figures = [
        after.resident,
        after.proportional,
        after.anonymous,
        after.threads,
        (after.switches - before.switches) / seconds,
        (after.cpu - before.cpu) * 3600.0 / seconds,
    ];
    rows.iter_mut().zip(figures).for_each(|(row, figure)| row.add(name, figure));
}

/// What one of many sidecars on a node costs.
fn node(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let mut row = Row::new("one more sidecar of 20: proportional share, MiB").within(0.6);
    for subject in subjects {
        let pods: Vec<_> = (0..NODE).map(|_| Pod::in_directory(memory)).collect();
        let _agents: Vec<_> = pods.iter().map(Pod::agent).collect();
        let all: Vec<_> = pods.iter().map(|pod| subject.refresh(pod, &[])).collect();
        sleep(2 * SETTLING);
        let sum: f64 = all.iter().map(|running| Figures::of(running).proportional).sum();
        row.add(&subject.name, sum / NODE as f64);
    }
    table.add(row);
}

/// From an update that is sent to files that are there.
fn updates(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let disk = std::env::current_dir().expect("a directory");
    for (place, directory, count, budget) in
        [("in memory", memory, UPDATES, Some(2.0)), ("on disk", &disk, FEW_UPDATES, None)]
    {
        let mut row = Row::new(&format!("update sent to published, {place}, ms")).all_within(budget);
        measure_updates(&mut row, subjects, directory, count, 1, 0);
        table.add(row);
    }
    for (svids, bundles, budget) in
        [(10, 0, None), (100, 0, None), (1, 10, None), (1, 100, None), (1, 1000, None), (10, 100, Some(10.0))]
    {
        let what = format!("the same: {svids} SVIDs, {bundles} bundles of 3, ms");
        let mut row = Row::new(&what).all_within(budget);
        measure_updates(&mut row, subjects, memory, FEW_UPDATES, svids, bundles);
        table.add(row);
    }
}

fn measure_updates(
    row: &mut Row,
    subjects: &[Subject],
    directory: &Path,
    count: usize,
    svids: usize,
    bundles: usize,
) {
    let options: &[&str] = if bundles > 0 { &["--include-federated-bundles"] } else { &[] };
    let can = |subject: &&Subject| options.is_empty() || subject.has_options();
    let subjects: Vec<_> = subjects.iter().filter(can).collect();
    let pods: Vec<_> = subjects.iter().map(|_| Pod::in_directory(directory)).collect();
    let agents: Vec<_> = pods.iter().map(Pod::agent).collect();
    let all: Vec<_> =
        subjects.iter().zip(&pods).map(|(subject, pod)| subject.refresh(pod, options)).collect();
    pods.iter().for_each(Pod::wait_for_files);
    sleep(SETTLING);
    for _ in 0..count {
        for ((subject, pod), agent) in subjects.iter().zip(&pods).zip(&agents) {
            let (reply, certificate) = pod.update(svids, bundles);
            sleep(PAUSE);
            let start = Instant::now();
            agent.reply(reply);
            pod.wait_for(&certificate);
            row.add(&subject.name, milliseconds(start));
        }
    }
    drop(all);
}

/// The same, after a silence: nothing that sleeps is in the way.
fn updates_after_silence(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let mut row = Row::new("update after 20 s of silence, ms").all_within(Some(10.0));
    let all = (0..SILENCES).flat_map(|_| subjects).map(|subject| {
        let pod = Pod::in_directory(memory);
        let agent = pod.agent();
        let running = subject.refresh(&pod, &[]);
        pod.wait_for_files();
        (subject, pod, agent, running)
    });
    let all: Vec<_> = all.collect();
    sleep(IDLE);
    for (subject, pod, agent, _running) in &all {
        let (reply, certificate) = pod.update(1, 0);
        let start = Instant::now();
        agent.reply(reply);
        pod.wait_for(&certificate);
        row.add(&subject.name, milliseconds(start));
    }
    table.add(row);
}

/// What ten SVIDs and a hundred bundles add to the memory of an idle refresh.
fn more_memory(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let mut row = Row::new("10 SVIDs, 100 bundles of 3: MiB more").within(2.0);
    for _ in 0..MEMORIES {
        for subject in subjects.iter().filter(|subject| subject.has_options()) {
            let pod = Pod::in_directory(memory);
            let agent = pod.agent();
            let running = subject.refresh(&pod, &["--include-federated-bundles"]);
            pod.wait_for_files();
            sleep(SETTLING);
            let before = Figures::of(&running).resident;
            let (reply, certificate) = pod.update(10, 100);
            agent.reply(reply);
            pod.wait_for(&certificate);
            sleep(SETTLING);
            row.add(&subject.name, Figures::of(&running).resident - before);
        }
    }
    table.add(row);
}

fn limits(table: &mut Table, ours: &Subject, memory: &Path) {
    let pod = Pod::in_directory(memory);
    let agent = pod.agent();
    let running = ours.refresh(&pod, &everything());
    pod.wait_for_files();
    let (reply, certificate) = pod.largest();
    agent.reply(reply);
    pod.wait_for(&certificate);
    sleep(SETTLING);
    let mut row = Row::new("8 MiB response, everything on: peak, MiB").within(32.0);
    row.add(&ours.name, Figures::of(&running).peak);
    table.add(row);
}

/// From SIGTERM to the exit, in each state.
fn ends(table: &mut Table, ours: &Subject, memory: &Path) {
    let mut rows = ["in a stream", "directory gone", "in backoff", "in connection set-up"]
        .map(|what| Row::new(&format!("SIGTERM to exit, {what}, ms")).within(100.0));
    for _ in 0..STOPS {
        let [stream, gone, backoff, set_up] = &mut rows;
        let pod = Pod::in_directory(memory);
        let agent = pod.agent();
        let start = || {
            let running = ours.refresh(&pod, &[]);
            sleep(SETTLING / 4);
            running
        };
        stream.add(&ours.name, start().stop());
        let running = start();
        pod.remove_volume();
        gone.add(&ours.name, running.stop());
        drop(agent);
        backoff.add(&ours.name, start().stop());
        let _silent = UnixListener::bind(pod.socket()).expect("a socket");
        set_up.add(&ours.name, start().stop());
    }
    rows.into_iter().for_each(|row| table.add(row));
}
