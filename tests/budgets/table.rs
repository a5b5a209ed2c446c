//! The rows: samples of each subject, their statistics, and the budget.

use std::time::Instant;

/// What a budget is for.
enum Budget {
    None,
    Median(f64),
    /// The 99th percentile.
    All(f64),
}

/// With fewer runs, the 99th percentile is the longest.
const RUNS_OF_A_PERCENTILE: usize = 100;

/// What the figure behind the median is called.
fn of_all(runs: usize) -> &'static str {
    if runs < RUNS_OF_A_PERCENTILE { "max" } else { "p99" }
}

pub struct Row {
    what: String,
    budget: Budget,
    /// Of each subject that has any.
    samples: Vec<(String, Vec<f64>)>,
}

impl Row {
    pub fn new(what: &str) -> Self {
        Self { what: what.to_owned(), budget: Budget::None, samples: Vec::new() }
    }

    /// The most that the median may be.
    pub fn within(mut self, budget: f64) -> Self {
        self.budget = Budget::Median(budget);
        self
    }

    /// The most that 99 of 100 may be, if there is a budget.
    pub fn all_within(mut self, budget: Option<f64>) -> Self {
        self.budget = budget.map_or(Budget::None, Budget::All);
        self
    }

    pub fn add(&mut self, subject: &str, sample: f64) {
        match self.samples.iter_mut().find(|(name, _)| name == subject) {
            Some((_, samples)) => samples.push(sample),
            None => self.samples.push((subject.to_owned(), vec![sample])),
        }
    }

    /// Median, 99th percentile (or maximum) and number of a subject's samples.
    fn statistics(&self, subject: &str) -> Option<(f64, f64, usize)> {
        let (_, samples) = self.samples.iter().find(|(name, _)| name == subject)?;
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
        Some((at(50), at(99), sorted.len()))
    }
}

pub struct Table {
    subjects: Vec<String>,
    rows: Vec<Row>,
}

impl Table {
    /// Prints the head. The first subject is this program.
    pub fn new(subjects: impl Iterator<Item = String>) -> Self {
        let subjects: Vec<_> = subjects.collect();
        print!("{:<52}", "");
        subjects.iter().for_each(|name| print!(" {name:>10} {:>14} {:>5}", "p99 or max", "runs"));
        println!("  budget");
        Self { subjects, rows: Vec::new() }
    }

    pub fn print(&mut self, row: Row) {
        print!("{:<52}", row.what);
        for subject in &self.subjects {
            match row.statistics(subject) {
                Some((median, most, runs)) => {
                    print!(" {median:>10.2} {most:>10.2} {} {runs:>5}", of_all(runs));
                }
                None => print!(" {:>10} {:>14} {:>5}", "-", "-", "-"),
            }
        }
        let verdict = |figure: f64, budget: f64| if figure <= budget { "met" } else { "NOT MET" };
        match (&row.budget, row.statistics(&self.subjects[0])) {
            (Budget::Median(budget), Some((median, ..))) => {
                println!("  {budget} {}", verdict(median, *budget))
            }
            (Budget::All(budget), Some((_, most, runs))) => {
                println!("  {budget} ({}) {}", of_all(runs), verdict(most, *budget))
            }
            _ => println!(),
        }
        self.rows.push(row);
    }

    /// Writes the rows as a list of objects to the file that `JSON` names.
    pub fn write_json(&self) {
        let Some(path) = std::env::var_os("JSON").filter(|path| !path.is_empty()) else { return };
        let row = |row: &Row| {
            let budget = match row.budget {
                Budget::None => serde_json::Value::Null,
                Budget::Median(budget) => serde_json::json!({ "median": budget }),
                Budget::All(budget) => serde_json::json!({ "p99": budget }),
            };
            let subjects: serde_json::Map<_, _> = self
                .subjects
                .iter()
                .filter_map(|name| {
                    let (median, most, runs) = row.statistics(name)?;
                    let figures = serde_json::json!({ "median": median, of_all(runs): most, "runs": runs });
                    Some((name.clone(), figures))
                })
                .collect();
            serde_json::json!({ "what": row.what, "budget": budget, "measured": subjects })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        std::fs::write(path, serde_json::Value::from(rows).to_string() + "\n").expect("JSON names a file");
    }
}

pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
