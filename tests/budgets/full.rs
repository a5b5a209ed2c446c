//! A full node: many sidecars of one agent, which do the same at the same moment.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use workload_api_server::server::Reply;

use crate::away::wait_until;
use crate::pod::Pod;
use crate::subject::{Figures, Subject};
use crate::table::{Row, Table, milliseconds};

const FULL: usize = 100;
const ROUNDS: usize = 5;
const OUTAGE: Duration = Duration::from_secs(10);
/// After a start. And a stream that is younger is not replaced at once.
const SETTLING: Duration = Duration::from_secs(2);
const TOKEN: &str = "--jwt-svid=token.jwt=audience";
/// Of tokens that are renewed while they are looked at.
const BRIEF: Duration = Duration::from_secs(20);
/// In this time, an agent is to have a part of the calls only.
const MOMENT: Duration = Duration::from_millis(50);

pub fn full_node(table: &mut Table, subjects: &[Subject], memory: &Path) {
    let row = |what: &str| Row::new(&format!("{FULL} sidecars {what}"));
    let mut together = row("together: proportional share, MiB").within(65.0);
    let mut start_to_files = row("started, to the last one's files, ms").within(1500.0);
    let mut back_to_files = row("and agent back, to the last new file, ms").all_within(Some(1000.0));
    let mut back = row("and agent back: calls in 50 ms").all_within(Some(20.0));
    let mut ended = row("and all streams ended: calls in 50 ms").all_within(Some(75.0));
    let mut renewed = row("and tokens renewed: calls in 50 ms").all_within(Some(20.0));
    for subject in subjects {
        let node = Pod::in_directory(memory);
        let mut agent = node.agent();
        agent.issue_jwt(node.tokens(BRIEF));
        let pods: Vec<_> = (0..FULL).map(|_| node.neighbour(memory)).collect();
        let start = Instant::now();
        let all: Vec<_> = pods.iter().map(|pod| subject.refresh(pod, &[TOKEN])).collect();
        pods.iter().for_each(Pod::wait_for_files);
        if subject.has_options() {
            wait_until(|| pods.iter().all(|pod| pod.volume().join("token.jwt").exists()));
        }
        start_to_files.add(&subject.name, milliseconds(start));
        let first = agent.jwt_calls() as usize;
        agent.issue_jwt(node.tokens(Duration::from_secs(3600)));
        if subject.has_options() {
            wait_until(|| agent.jwt_calls() as usize >= first + FULL);
            renewed.add(&subject.name, most_in_a_moment(&agent.jwt_called_at()[first..]));
        }
        sleep(SETTLING);
        together.add(&subject.name, all.iter().map(|running| Figures::of(running).proportional).sum());
        for _ in 0..ROUNDS {
            drop(agent);
            sleep(OUTAGE);
            let start = Instant::now();
            let (next, certificate) = node.next_agent();
            agent = next;
            pods.iter().for_each(|pod| pod.wait_for(&certificate));
            back_to_files.add(&subject.name, milliseconds(start));
            let calls = agent.called_at();
            back.add(&subject.name, most_in_a_moment(&calls));
            sleep(SETTLING);
            let (reply, certificate) = node.update(1, 0);
            agent.reply(Reply::Close);
            agent.reply(reply);
            pods.iter().for_each(|pod| pod.wait_for(&certificate));
            ended.add(&subject.name, most_in_a_moment(&agent.called_at()[calls.len()..]));
        }
    }
    [together, start_to_files, back_to_files, back, ended, renewed]
        .into_iter()
        .for_each(|row| table.add(row));
}

/// The most calls in any [`MOMENT`].
fn most_in_a_moment(calls: &[Instant]) -> f64 {
    let in_moment =
        |from: &Instant| calls.iter().filter(|call| (*from..*from + MOMENT).contains(*call)).count();
    calls.iter().map(in_moment).max().unwrap_or(0) as f64
}
