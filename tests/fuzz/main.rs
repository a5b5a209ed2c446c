//! All that comes from outside, as bytes: no input makes the program panic, and what it accepts is good.
//!
//! `targets.rs` has the targets. `make test` runs the inputs in `corpus`, a directory for each target, which
//! `make fuzz` has found: see `fuzz.rs`. An input that breaks a promise belongs there, too.

mod targets;

use std::path::Path;

use targets::TARGETS;

/// Fewer inputs show little.
const LEAST: usize = 3;

#[test]
fn every_input_of_the_corpus_is_refused_or_understood() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in TARGETS {
        let inputs: Vec<_> = std::fs::read_dir(corpus.join(name)).expect(name).collect();
        assert!(inputs.len() >= LEAST, "{name}: {} inputs", inputs.len());
        for input in inputs {
            let path = input.expect("an entry").path();
            // A panic ends the process: its last line names the input.
            eprintln!("{}", path.display());
            target(&std::fs::read(path).expect("an input"));
        }
    }
}
