//! How many points there were, and what they have led to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::check::State;
use super::point::{Fault, Outcome, Point};
use super::scenario::Scenario;

#[derive(Default)]
pub struct Table(BTreeMap<Scenario, Row>);

#[derive(Default)]
struct Row {
    calls: BTreeSet<(String, usize)>,
    faults: BTreeMap<Fault, usize>,
    states: BTreeMap<State, usize>,
    succeeded: usize,
}

impl Table {
    pub fn count(&mut self, point: &Point<'_>, outcome: Outcome) {
        let row = self.0.entry(point.scene.scenario).or_default();
        row.calls.insert((point.call.name.clone(), point.call.number));
        *row.faults.entry(point.fault).or_default() += 1;
        *row.states.entry(outcome.state).or_default() += 1;
        row.succeeded += usize::from(outcome.has_succeeded);
    }

    pub fn tried(&self) -> usize {
        self.0.values().map(Row::tried).sum()
    }

    /// At how many calls the program was killed.
    pub fn killed(&self) -> usize {
        self.0.values().filter_map(|row| row.faults.get(&Fault::Kill)).sum()
    }
}

impl Row {
    fn tried(&self) -> usize {
        self.faults.values().sum()
    }

    fn cells(&self) -> Vec<usize> {
        let faults = Fault::ALL.iter().map(|fault| self.faults.get(fault).copied().unwrap_or_default());
        let states = [State::Old, State::Between, State::New];
        let states = states.map(|state| self.states.get(&state).copied().unwrap_or_default());
        [self.calls.len()]
            .into_iter()
            .chain(faults)
            .chain([self.tried()])
            .chain(states)
            .chain([self.succeeded])
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = Fault::ALL.map(|fault| match fault {
            Fault::Kill => "killed".to_owned(),
            Fault::Error(name) => name.to_owned(),
            Fault::Lasting(name) => format!("lasting {name}"),
            Fault::NothingWritten => "0 written".to_owned(),
        });
        let (first, last) =
            (["publication", "calls"], ["points", "old set", "between", "new set", "succeeded"]);
        let head: Vec<_> = first.into_iter().chain(faults.iter().map(String::as_str)).chain(last).collect();
        writeln!(f, "| {} |\n|{}", head.join(" | "), " --- |".repeat(head.len()))?;
        let mut sums = vec![0; head.len() - 1];
        for (scenario, row) in &self.0 {
            let cells = row.cells();
            sums.iter_mut().zip(&cells).for_each(|(sum, cell)| *sum += cell);
            line(f, scenario.title(), &cells)?;
        }
        line(f, "all", &sums)
    }
}

fn line(f: &mut fmt::Formatter<'_>, title: &str, cells: &[usize]) -> fmt::Result {
    let cells: Vec<_> = cells.iter().map(usize::to_string).collect();
    writeln!(f, "| {title} | {} |", cells.join(" | "))
}
