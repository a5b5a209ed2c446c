//! While the agent is away, and when it is back.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use workload_api_server::server::Reply;

use crate::pod::{PATIENCE, Pod};
use crate::subject::{MIB, Running, Subject};
use crate::table::{Row, Table, milliseconds};

const OUTAGES: usize = 10;
/// Seconds.
const DAY: f64 = 24.0 * 3600.0;

/// From an agent that is back to new files. Outages of one length pass together; the agents come back one
/// after the other.
pub fn recoveries(table: &mut Table, subjects: &[Subject], memory: &Path) {
    for seconds in [1, 10, 60] {
        let all = (0..OUTAGES).flat_map(|_| subjects).map(|subject| {
            let pod = Pod::in_directory(memory);
            let agent = pod.agent();
            let running = subject.refresh(&pod, &[]);
            pod.wait_for_files();
            (subject, pod, agent, running)
        });
        let all: Vec<_> = all.collect();
        let all: Vec<_> = all.into_iter().map(|(subject, pod, _, running)| (subject, pod, running)).collect();
        sleep(Duration::from_secs(seconds));
        let what = format!("agent back after {seconds} s to new files, ms");
        let mut row = Row::new(&what).all_within(Some(1000.0));
        for (index, (subject, pod, _running)) in all.into_iter().enumerate() {
            // Programs that have begun together retry together. Agents come back at any moment between.
            sleep(Duration::from_millis(index as u64 * 317 % 800));
            let (_agent, certificate) = pod.next_agent();
            let start = Instant::now();
            pod.wait_for(&certificate);
            row.add(&subject.name, milliseconds(start));
        }
        table.add(row);
    }
}

/// From a call for a token, which the agent does not answer, to its error: the time of a call is 45 s.
pub fn silence(table: &mut Table, ours: &Subject, memory: &Path) {
    let all = (0..OUTAGES).map(|_| {
        let (pod, log) = (Pod::in_directory(memory), NamedTempFile::new().expect("a log"));
        let agent = pod.agent();
        agent.issue_jwt(|_| Reply::Silence);
        let options = ["--x509=false", "--jwt-svid=token.jwt=audience"];
        let running = ours.refresh_with_log(&pod, &options, log.reopen().expect("a log"));
        wait_until(|| agent.jwt_calls() > 0);
        (Instant::now(), pod, agent, running, log)
    });
    let all: Vec<_> = all.collect();
    let mut row = Row::new("token call to a silent agent, to its error, s").all_within(Some(46.0));
    for (start, _pod, _agent, _running, log) in &all {
        let text = || std::fs::read_to_string(log.path()).expect("a log");
        wait_until(|| text().contains("did not answer within"));
        row.add(&ours.name, milliseconds(*start) / 1000.0);
    }
    table.add(row);
}

pub fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?}");
        sleep(Duration::from_millis(1));
    }
}

/// The logs of programs whose agent is away while all else is measured.
pub struct Logs<'a> {
    since: Instant,
    all: Vec<(&'a Subject, Pod, Running, NamedTempFile)>,
}

impl<'a> Logs<'a> {
    pub fn begin(subjects: &'a [Subject], memory: &Path) -> Self {
        let all = subjects.iter().map(|subject| {
            let (pod, log) = (Pod::in_directory(memory), NamedTempFile::new().expect("a log"));
            let running = subject.refresh_with_log(&pod, &[], log.reopen().expect("a log"));
            (subject, pod, running, log)
        });
        Self { since: Instant::now(), all: all.collect() }
    }

    pub fn end(&self, table: &mut Table) {
        let mut row = Row::new("log of a day without an agent, MiB").within(1.0);
        let days = self.since.elapsed().as_secs_f64() / DAY;
        for (subject, _pod, _running, log) in &self.all {
            let bytes = log.as_file().metadata().expect("a log").len();
            row.add(&subject.name, bytes as f64 / days / MIB);
        }
        table.add(row);
    }
}
