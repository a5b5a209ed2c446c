//! Generates the Workload API's messages from workload.proto, in pure Rust: no `protoc` needed. And lets the
//! linker pack the program's relocations.

use std::env;
use std::process::Command;

use protobuf_codegen::{Codegen, Customize};

fn main() {
    println!("cargo::rerun-if-changed=proto");
    Codegen::new()
        .pure()
        // Without descriptors and reflection, which the helper never uses.
        .customize(Customize::default().lite_runtime(true))
        .include("proto")
        .input("proto/workload.proto")
        .cargo_out_dir("workload_api")
        .run_from_script();
    if glibc_minor().is_some_and(|minor| minor >= UNPACKS) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// A position-independent program has a third of a MiB of relocations, which the linker can pack into some KiB. A
/// static program unpacks them by its own C library: glibc can since 2.36. (A linker that cannot pack ignores it.)
const UNPACKS: u32 = 36;

/// The second number of the version of the target's glibc, if it is one.
fn glibc_minor() -> Option<u32> {
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env != "gnu") {
        return None;
    }
    let compiler = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let arguments = ["-E", "-dM", "-include", "features.h", "-x", "c", "/dev/null"];
    let macros = Command::new(compiler).args(arguments).output().ok()?.stdout;
    let macros = String::from_utf8(macros).ok()?;
    macros.lines().find_map(|line| line.strip_prefix("#define __GLIBC_MINOR__ ")?.trim().parse().ok())
}
