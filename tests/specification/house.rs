//! The structure of src: the table of modules in src/lib.rs is their order, and each file is short. The program's
//! size. And the tests that the conformance table of tests/README.md names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The most lines of a source file.
const LONGEST: usize = 500;

/// The source files with their text: `layout/names` for src/layout/names.rs, `layout` for its mod.rs.
fn source() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut directories) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
                continue;
            }
            let name: PathBuf = entry.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_str().unwrap();
            if ["tests", "interoperability"].iter().any(|tests| name.ends_with(tests)) {
                continue;
            }
            let name = name.strip_suffix("/mod").unwrap_or(name).to_owned();
            files.insert(name, read_to_string(entry).unwrap());
        }
    }
    files
}

/// The modules in the first column of the table in src/lib.rs, in its order.
fn rooms(lib: &str) -> Vec<&str> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.flat_map(|row| row.split(" | ").next().unwrap().split(['`', ',', ' ']))
        .filter(|word| !word.is_empty())
        .collect()
}

/// The paths of a tree of imports: `a::b` and `a::c` for `a::{b, c}`.
fn paths(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let rest = rest.trim_end().strip_suffix('}').unwrap();
    let (mut depth, mut branches) = (0, vec![String::new()]);
    for letter in rest.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if letter == ',' && depth == 0 {
            branches.push(String::new());
        } else {
            branches.last_mut().unwrap().push(letter);
        }
    }
    let branches = branches.iter().filter(|branch| !branch.trim().is_empty());
    branches.flat_map(|branch| paths(&format!("{}{}", prefix.trim(), branch.trim()))).collect()
}

/// The file that a path of `file` leads to, if it is one of ours.
fn target(files: &BTreeMap<String, String>, file: &str, path: &str) -> Option<String> {
    let mut segments = path.split("::").peekable();
    let mut at: Vec<&str> = match segments.peek()? {
        &"crate" => Vec::new(),
        _ => file.split('/').collect(),
    };
    segments.next_if(|segment| ["crate", "self"].contains(segment));
    while segments.next_if_eq(&"super").is_some() {
        at.pop();
    }
    for segment in segments {
        at.push(segment);
        if !files.contains_key(&at.join("/")) {
            at.pop();
            break;
        }
    }
    Some(at.join("/")).filter(|found| found != file && files.contains_key(found))
}

/// The files that a file imports, its tests aside.
fn imports(files: &BTreeMap<String, String>, file: &str) -> BTreeSet<String> {
    let text = files[file].split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text: String = lines.flat_map(|line| ["\n", line]).collect();
    let text = text.replace("\npub(crate) use ", "\nuse ").replace("\npub(super) use ", "\nuse ");
    let declarations = text.split("\nuse ").skip(1).filter_map(|rest| Some(rest.split_once(';')?.0));
    let declared = declarations.flat_map(paths);
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':');
    let inline = words.filter(|word| {
        ["crate::", "super::"].iter().any(|start| word.len() > start.len() && word.starts_with(start))
    });
    let all: Vec<String> = declared.chain(inline.map(str::to_owned)).collect();
    all.iter().filter_map(|path| target(files, file, path)).collect()
}

#[test]
fn each_module_imports_only_modules_below_it_in_the_table() {
    let files = source();
    let rooms = rooms(&files["lib"]);
    let place = |file: &str| {
        let room = file.split('/').next().unwrap();
        rooms.iter().position(|listed| *listed == room)
    };
    for file in files.keys().filter(|file| !["lib", "main", "program"].contains(&file.as_str())) {
        let own = place(file).unwrap_or_else(|| panic!("{file} is not in the table of src/lib.rs"));
        for imported in imports(&files, file) {
            assert!(place(&imported).is_some_and(|other| other >= own), "{file} imports {imported}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = source();
    let mut rest: BTreeMap<_, _> = files.keys().map(|file| (file, imports(&files, file))).collect();
    // What imports nothing of the rest is in no circle.
    while let Some(file) =
        rest.iter().find(|(_, imported)| !imported.iter().any(|other| rest.contains_key(other)))
    {
        let file = *file.0;
        rest.remove(file);
    }
    assert!(rest.is_empty(), "in a circle, or above one: {:#?}", rest.keys());
}

/// The most rooms, and arrows between them: what a reader can hold in the head. `program` and `lib` see all.
const ROOMS: usize = 22;
const ARROWS: usize = 92;

#[test]
fn the_picture_of_rooms_and_arrows_stays_small() {
    let files = source();
    let room = |file: &str| file.split('/').next().unwrap().to_owned();
    let inner = || files.keys().filter(|file| !["lib", "main", "program"].contains(&file.as_str()));
    let rooms: BTreeSet<String> = inner().map(|file| room(file)).collect();
    let arrows: BTreeSet<(String, String)> = inner()
        .flat_map(|file| imports(&files, file).into_iter().map(|imported| (room(file), room(&imported))))
        .filter(|(from, to)| from != to)
        .collect();
    println!("{} rooms, {} arrows", rooms.len(), arrows.len());
    assert!(rooms.len() <= ROOMS && arrows.len() <= ARROWS, "{} rooms, {arrows:#?}", rooms.len());
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let lengths = source().into_iter().map(|(file, text)| (file, text.lines().count()));
    let long: Vec<_> = lengths.filter(|(_, lines)| *lines > LONGEST).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn the_program_is_no_larger_than_five_mebibytes() {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_pod-svid-helper")).unwrap().len();
    assert!(size <= 5 << 20, "{size} bytes");
}

/// Whether a test exists: `options::name` in tests/specification/options.rs, `src/wait::name` in src/wait.rs. It is
/// a function, or a row of a macro that makes one.
fn exists(test: &str) -> bool {
    let Some((file, name)) = test.rsplit_once("::") else { return false };
    let directory = if file.starts_with("src/") { "" } else { "tests/specification/" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{directory}{file}.rs"));
    let text = read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let (function, row) = (format!("fn {name}()"), format!("{name}: "));
    lines.windows(2).any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&function))
        || lines.iter().any(|line| line.starts_with(&row) && line.contains(" => "))
}

#[test]
fn each_row_of_the_conformance_table_names_tests_that_exist() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let readme = read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("\n## Conformance\n").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    // The first two are the head of the table.
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(!rows.is_empty(), "no table: {section}");
    for row in rows {
        let code = row.split('`').skip(1).step_by(2);
        let tests: Vec<&str> = code.filter(|code| code.contains("::")).collect();
        let missing: Vec<_> = tests.iter().filter(|test| !exists(test)).collect();
        assert!(!tests.is_empty() && missing.is_empty(), "missing: {missing:?} of {row}");
    }
    assert!(!exists("house::a_test_of_this_name") && !exists("nowhere::a_test_of_this_name"));
}
