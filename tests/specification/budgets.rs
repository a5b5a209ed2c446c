//! How `make bench` judges: by the budget, and again where other programs disturb.

use std::sync::atomic::{AtomicU32, Ordering};

use table::{Row, Table, Work};

#[path = "../budgets/table.rs"]
#[allow(dead_code, reason = "a part of it is needed")]
mod table;

fn quiet() -> Work {
    Work { all: 0.0, others: 0.0 }
}

/// Others have one of two processors.
fn busy() -> Work {
    static TICKS: AtomicU32 = AtomicU32::new(0);
    let ticks = f64::from(TICKS.fetch_add(100, Ordering::Relaxed));
    Work { all: 2.0 * ticks, others: ticks }
}

/// Measures these figures one after the other, as long as they are asked for, against a budget of 5; gives how
/// often, and the end.
fn judge(look: fn() -> Work, figures: &[f64]) -> (usize, Result<(), String>) {
    let mut table = Table::new(["ours".to_owned()].into_iter(), look);
    let mut times = 0;
    table.measure(|table| {
        let mut row = Row::new("a figure").within(5.0);
        row.add("ours", figures[times]);
        times += 1;
        table.add(row);
    });
    (times, table.end())
}

#[test]
fn a_budget_that_is_not_met_fails_the_bench() {
    let failure = "1 budgets are not met: a figure".to_owned();
    assert_eq!(judge(quiet, &[6.0]), (1, Err(failure)));
    assert_eq!(judge(quiet, &[5.0]), (1, Ok(())));
}

#[test]
fn a_figure_that_other_programs_have_disturbed_is_measured_again_before_it_is_not_met() {
    assert_eq!(judge(busy, &[6.0, 4.0]), (2, Ok(())));
    let (times, end) = judge(busy, &[6.0, 6.0, 6.0]);
    assert_eq!((times, end.is_err()), (3, true));
    assert_eq!(judge(busy, &[4.0]), (1, Ok(())));
}
