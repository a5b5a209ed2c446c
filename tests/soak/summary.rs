//! What there was, in a few lines.

use std::fmt;

use super::growth::Figures;
use super::readers::{Counts, Reader};

/// How often each thing has happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Events {
    pub restarts: usize,
    pub stops: usize,
    pub full_disks: usize,
    pub clock_steps: usize,
    pub applications: usize,
    pub hook_failures: usize,
    pub hooks: usize,
    pub signals: usize,
}

impl Events {
    /// What has not happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [
            ("agent restarts", self.restarts),
            ("stops", self.stops),
            ("full disks", self.full_disks),
            ("clock steps", self.clock_steps),
            ("other applications", self.applications),
            ("hook failures", self.hook_failures),
            ("hook runs", self.hooks),
            ("signals", self.signals),
        ];
        all.into_iter().filter(|(_, times)| *times == 0).map(|(what, _)| what).collect()
    }
}

pub struct Summary {
    pub seed: u64,
    pub rotations: usize,
    pub seconds: u64,
    /// More than rotations: some were superseded at once, or not valid by the clock.
    pub sets: usize,
    pub counts: [Counts; Reader::ALL.len()],
    pub events: Events,
    /// What this machine does not allow.
    pub skipped: Vec<&'static str>,
    /// At rest, after the first tenth.
    pub first: Figures,
    /// At rest, at the end.
    pub last: Figures,
    pub most: Figures,
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, rotations, seconds, sets, counts, events, skipped, first, last, most } = self;
        let readings: u64 = counts.iter().map(|counts| counts.readings).sum();
        writeln!(
            out,
            "soak: seed {seed}, {rotations} rotations in {seconds} s, {sets} sets offered, {readings} readings"
        )?;
        for (reader, Counts { readings, mixtures, gone }) in Reader::ALL.iter().zip(counts) {
            writeln!(
                out,
                "  reader {reader:?}: {readings} readings; while ..data moved: {mixtures} mixtures, {gone} gone"
            )?;
        }
        let Events { restarts, stops, full_disks, clock_steps, .. } = events;
        writeln!(
            out,
            "  {restarts} agent restarts, {stops} stops, {full_disks} full disks, {clock_steps} clock steps"
        )?;
        let Events { hooks, hook_failures, signals, applications, .. } = events;
        writeln!(
            out,
            "  {hooks} hook runs, {hook_failures} failures; {signals} signals to {} applications",
            applications + 1
        )?;
        writeln!(out, "  after the first tenth: {first}\n  at the end: {last}\n  at most: {most}")?;
        skipped.iter().try_for_each(|what| writeln!(out, "  SKIPPED: {what}"))
    }
}
