//! The rows: samples of each subject, their statistics, and the budget.

use std::time::Instant;

/// How often a figure is measured at most, while other programs disturb it.
const TRIES: usize = 3;
/// From this share of the processors on, others disturb.
const DISTURBING: f64 = 0.05;

/// What the processors have done so far, in ticks.
#[derive(Clone, Copy)]
pub struct Work {
    /// Idle or not.
    pub all: f64,
    /// For other programs than this one and its children.
    pub others: f64,
}

impl Work {
    /// Of this machine.
    pub fn look() -> Self {
        // Of all processors: user, nice, system, idle, iowait, irq, softirq, steal.
        let all = &numbers("/proc/stat", "cpu ")[..8];
        // Behind the state: utime, stime, cutime, cstime.
        let own = &numbers("/proc/self/stat", ") ")[10..14];
        let (all, idle, own) = (all.iter().sum::<f64>(), all[3] + all[4], own.iter().sum::<f64>());
        Self { all, others: all - idle - own }
    }

    /// The share of the processors that others have had since then.
    fn others_since(self, before: Self) -> f64 {
        ((self.others - before.others) / (self.all - before.all).max(1.0)).max(0.0)
    }
}

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

/// The numbers of a file's first line, behind this text.
fn numbers(file: &str, before: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(file).expect("a file of /proc");
    let line = text.lines().next().and_then(|line| line.split_once(before)).expect("a line").1;
    line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
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
    look: fn() -> Work,
    not_met: Vec<String>,
    /// The largest share of the processors that others have had during a measurement that counts.
    others: f64,
}

impl Table {
    /// Prints the head. The first subject is this program.
    pub fn new(subjects: impl Iterator<Item = String>, look: fn() -> Work) -> Self {
        let subjects: Vec<_> = subjects.collect();
        print!("{:<52}", "");
        subjects.iter().for_each(|name| print!(" {name:>10} {:>14} {:>5}", "p99 or max", "runs"));
        println!("  budget");
        Self { subjects, rows: Vec::new(), look, not_met: Vec::new(), others: 0.0 }
    }

    /// Adds what is measured; measures again what is not within its budget, if others have disturbed it.
    pub fn measure(&mut self, mut measure: impl FnMut(&mut Self)) {
        let first = self.rows.len();
        for tries_left in (0..TRIES).rev() {
            let before = (self.look)();
            measure(self);
            let others = (self.look)().others_since(before);
            let missed = self.rows[first..].iter().filter(|row| self.is_met(row) == Some(false));
            let missed: Vec<_> = missed.map(|row| row.what.clone()).collect();
            if tries_left > 0 && !missed.is_empty() && others > DISTURBING {
                println!(
                    "measured again, since others had {:.0} % of the processors: {}",
                    others * 100.0,
                    missed.join("; ")
                );
                self.rows.truncate(first);
                continue;
            }
            self.rows[first..].iter().for_each(|row| self.print(row));
            self.not_met.extend(missed);
            self.others = self.others.max(others);
            return;
        }
    }

    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Says how busy the machine was, and what is not within its budget.
    pub fn end(&self) -> Result<(), String> {
        println!("other programs had at most {:.0} % of the processors", self.others * 100.0);
        match self.not_met.as_slice() {
            [] => Ok(()),
            rows => Err(format!("{} budgets are not met: {}", rows.len(), rows.join("; "))),
        }
    }

    /// Whether this program is within the budget, if there is one.
    fn is_met(&self, row: &Row) -> Option<bool> {
        let (median, most, _) = row.statistics(&self.subjects[0])?;
        match row.budget {
            Budget::None => None,
            Budget::Median(budget) => Some(median <= budget),
            Budget::All(budget) => Some(most <= budget),
        }
    }

    fn print(&self, row: &Row) {
        print!("{:<52}", row.what);
        for subject in &self.subjects {
            match row.statistics(subject) {
                Some((median, most, runs)) => {
                    print!(" {median:>10.2} {most:>10.2} {} {runs:>5}", of_all(runs));
                }
                None => print!(" {:>10} {:>14} {:>5}", "-", "-", "-"),
            }
        }
        let verdict = self.is_met(row).map_or("", |is_met| if is_met { "met" } else { "NOT MET" });
        let runs = row.statistics(&self.subjects[0]).map_or(0, |(.., runs)| runs);
        match row.budget {
            Budget::None => println!(),
            Budget::Median(budget) => println!("  {budget} {verdict}"),
            Budget::All(budget) => println!("  {budget} ({}) {verdict}", of_all(runs)),
        }
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
