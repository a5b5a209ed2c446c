//! What is fitted to one version of gRPC's C-core.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::pod::skip;

/// The version that was read for src/workload_api/core_clock.rs.
const VERSION: &str = "0.13.0+1.56.2-patched";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn c_core_has_the_version_that_was_read_for_its_clock() {
    let lock = read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let packages = lock.split("[[package]]").filter(|package| package.contains("name = \"grpcio-sys\"\n"));
    let versions: Vec<_> =
        packages.flat_map(str::lines).filter_map(|line| line.strip_prefix("version = ")).collect();
    assert_eq!(
        versions,
        [format!("{VERSION:?}")],
        "read in the new C-core what src/workload_api/core_clock.rs says of this one, and look for other waits"
    );
}

/// The directory of C-core's sources; an error says why there is none.
fn c_core() -> Result<PathBuf, String> {
    let arguments = ["metadata", "--format-version=1", "--locked", "--offline", "--manifest-path"];
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = cargo.args(arguments).arg(root().join("Cargo.toml")).output();
    let output = output.map_err(|error| format!("no cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut packages = metadata["packages"].as_array().expect("packages").iter();
    let package = packages.find(|package| package["name"] == "grpcio-sys").expect("grpcio-sys");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Ok(Path::new(manifest).with_file_name("grpc"))
}

/// The sources of a library in C-core's CMakeLists.txt.
fn sources<'a>(lists: &'a str, library: &str) -> Vec<&'a str> {
    let (_, list) = lists.split_once(&format!("\nadd_library({library}\n")).expect(library);
    let (list, _) = list.split_once("\n)").expect("its end");
    list.lines().map(str::trim).collect()
}

/// The ends of file names that the list `FEW_UNITS_ALONE` stands for.
fn alone() -> Vec<String> {
    let path = root().join(".cargo/c-core/few-units.cmake");
    let text = read_to_string(path).expect("few-units.cmake");
    let (_, list) = text.split_once("set(FEW_UNITS_ALONE\n").expect("the list");
    let (list, _) = list.split_once("\")\n").expect("its end");
    let patterns = list.lines().map(|line| line.trim().trim_matches('"'));
    let end = |pattern: &str| {
        let end = pattern.strip_suffix('$').expect("a pattern of an end").replace(r"\\.", ".");
        assert!(!end.contains(['\\', '*', '+', '?', '[', '(', '|', '^']), "{pattern}: a pattern of more");
        end
    };
    patterns.map(end).collect()
}

#[test]
fn each_source_that_is_compiled_alone_is_one_of_c_core() {
    let lists = match c_core() {
        Ok(directory) => read_to_string(directory.join("CMakeLists.txt")).expect("C-core's CMakeLists.txt"),
        Err(why) => return skip(&format!("C-core's sources are not here ({why})")),
    };
    let sources = [sources(&lists, "grpc_unsecure"), sources(&lists, "gpr")].concat();
    let alone = alone();
    assert!(!alone.is_empty());
    for end in alone {
        assert!(sources.iter().any(|source| source.ends_with(&end)), "no source ends with {end}");
    }
}
