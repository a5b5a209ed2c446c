//! Runs a target of `targets.rs`: with the inputs that are named, or, built by `make fuzz`, with those that
//! libFuzzer makes up, guided by the code that they reach.
//!
//! usage: FUZZ_TARGET=NAME fuzz FILE...

#![cfg_attr(fuzzing, no_main)]

mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let known = targets::TARGETS.into_iter().find(|(name, _)| *name == wanted);
    known.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {:?}", targets::TARGETS.map(|(name, _)| name))).1
});

#[cfg(fuzzing)]
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "libFuzzer calls this function by its name, with a pointer")]
extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, length: usize) -> i32 {
    // SAFETY: libFuzzer's input; it may be empty and the pointer null.
    let bytes = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, length) } };
    TARGET(bytes);
    0
}

#[cfg(not(fuzzing))]
fn main() {
    for path in std::env::args_os().skip(1) {
        TARGET(&std::fs::read(&path).expect("an input"));
        eprintln!("{}: no complaint", path.display());
    }
}
