//! All that comes from outside, as bytes: no input makes the program panic, and what it accepts is good.
//!
//! `targets.rs` has the targets. `make test` runs the inputs in `corpus`, a directory for each target, which
//! `make fuzz` has found: see `fuzz.rs`. An input that breaks a promise belongs there, too. What a parser must
//! understand is called `seed-…`.

mod targets;

use std::path::Path;

use targets::TARGETS;

/// Fewer inputs show little.
const LEAST: usize = 15;
/// A parser that refuses everything fails.
const LEAST_UNDERSTOOD: usize = 3;

#[test]
fn every_input_of_the_corpus_is_refused_or_understood() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in TARGETS {
        let (mut inputs, mut seeds) = (0, 0);
        for input in std::fs::read_dir(corpus.join(name)).expect(name) {
            let path = input.expect("an entry").path();
            // A panic ends the process: its last line names the input.
            eprintln!("{}", path.display());
            let is_understood = target(&std::fs::read(&path).expect("an input"));
            inputs += 1;
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                seeds += 1;
                assert!(is_understood, "{} is refused", path.display());
            }
        }
        assert!(inputs >= LEAST, "{name}: {inputs} inputs");
        assert!(seeds >= LEAST_UNDERSTOOD, "{name}: {seeds} seeds");
    }
}
