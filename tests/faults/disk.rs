//! A tree of files in memory, and the operations of a recorded publication on it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use super::calls::Call;
use super::order::FLEETING;
use super::scenario::{Runner, Scene};

/// Which inode.
type Number = usize;

#[derive(Debug, Clone, Hash)]
struct Inode {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
}

#[derive(Debug, Clone, Hash)]
enum Kind {
    Directory(BTreeMap<String, Number>),
    File(Vec<u8>),
    Link(String),
}

/// What a disk keeps. The first inode is the directory in which the volume is.
#[derive(Debug, Clone, Default)]
pub struct Disk(Vec<Inode>);

/// One operation, which a file system does as a whole or not at all, except for data.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Entries of directories are set, or removed: two for a rename.
    Entries(Vec<(Number, String, Option<Number>)>),
    Mode(Number, u32),
    Owner(Number, (u32, u32)),
    /// Bytes at an offset.
    Data(Number, usize, Vec<u8>),
    Emptied(Number),
    Sync(Number),
}

impl Operation {
    /// Whether fsync(2) of this inode puts it on disk. A rename is one whole: that of either directory does.
    pub fn is_synced_by(&self, synced: Number) -> bool {
        match self {
            Self::Entries(entries) => entries.iter().any(|(directory, ..)| *directory == synced),
            Self::Mode(inode, _) | Self::Owner(inode, _) | Self::Data(inode, ..) | Self::Emptied(inode) => {
                *inode == synced
            }
            Self::Sync(_) => true,
        }
    }
}

impl Disk {
    fn read(directory: &Path) -> Self {
        let mut disk = Self::default();
        disk.add(directory, &mut HashMap::new());
        disk
    }

    fn add(&mut self, path: &Path, known: &mut HashMap<u64, Number>) -> Number {
        let found = path.symlink_metadata().expect("metadata");
        if let Some(number) = known.get(&found.ino()) {
            return *number;
        }
        let kind = if found.is_dir() {
            Kind::Directory(BTreeMap::new())
        } else if found.is_symlink() {
            Kind::Link(fs::read_link(path).expect("a link").to_str().expect("UTF-8").to_owned())
        } else {
            Kind::File(fs::read(path).expect("a file"))
        };
        self.0.push(Inode { kind, mode: found.mode() & 0o7777, owner: (found.uid(), found.gid()) });
        let number = self.0.len() - 1;
        known.insert(found.ino(), number);
        if found.is_dir() {
            for entry in fs::read_dir(path).expect("a directory").flatten() {
                let inode = self.add(&entry.path(), known);
                let name = entry.file_name().into_string().expect("UTF-8");
                self.entries(number).insert(name, inode);
            }
        }
        number
    }

    fn entries(&mut self, directory: Number) -> &mut BTreeMap<String, Number> {
        match &mut self.0[directory].kind {
            Kind::Directory(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn data(&mut self, file: Number) -> &mut Vec<u8> {
        match &mut self.0[file].kind {
            Kind::File(data) => data,
            other => panic!("{other:?} is no file"),
        }
    }

    fn find(&mut self, path: &str) -> Number {
        let names = path.strip_prefix("DIRECTORY").expect(path).split('/').filter(|name| !name.is_empty());
        names.fold(0, |directory, name| *self.entries(directory).get(name).expect(path))
    }

    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Entries(entries) => {
                for (directory, name, inode) in entries {
                    let entries = self.entries(*directory);
                    match inode {
                        Some(inode) => entries.insert(name.clone(), *inode),
                        None => entries.remove(name),
                    };
                }
            }
            Operation::Mode(inode, mode) => self.0[*inode].mode = *mode,
            Operation::Owner(inode, owner) => self.0[*inode].owner = *owner,
            Operation::Data(file, offset, bytes) => {
                let (data, end) = (self.data(*file), offset + bytes.len());
                data.resize(data.len().max(end), 0);
                data[*offset..end].copy_from_slice(bytes);
            }
            Operation::Emptied(file) => self.data(*file).clear(),
            Operation::Sync(_) => {}
        }
    }

    /// The same for trees that nobody can tell apart.
    pub fn hash(&self) -> u64 {
        let (mut hasher, mut seen) = (DefaultHasher::new(), Vec::new());
        self.visit(0, "", &mut |path, number, inode| {
            let first = seen.iter().position(|seen| *seen == number);
            seen.push(number);
            (path, first).hash(&mut hasher);
            match &inode.kind {
                // Their entries follow.
                Kind::Directory(_) => (inode.mode, inode.owner).hash(&mut hasher),
                _ => inode.hash(&mut hasher),
            }
        });
        hasher.finish()
    }

    fn visit(&self, number: Number, path: &str, see: &mut impl FnMut(&str, Number, &Inode)) {
        see(path, number, &self.0[number]);
        if let Kind::Directory(entries) = &self.0[number].kind {
            entries.iter().for_each(|(name, inode)| self.visit(*inode, &format!("{path}/{name}"), see));
        }
    }

    /// Makes the tree; the directory must not be there yet.
    pub fn write(&self, directory: &Path) {
        let mut written = HashMap::new();
        self.visit(0, "", &mut |path, number, inode| {
            let path = directory.join(path.trim_start_matches('/'));
            if let Some(first) = written.get(&number) {
                return fs::hard_link(first, &path).expect("a hard link");
            }
            match &inode.kind {
                Kind::Directory(_) => fs::create_dir(&path).expect("a directory"),
                Kind::File(data) => fs::write(&path, data).expect("a file"),
                Kind::Link(target) => symlink(target, &path).expect("a link"),
            }
            lchown(&path, Some(inode.owner.0), Some(inode.owner.1)).expect("its owner");
            if !matches!(inode.kind, Kind::Link(_)) {
                fs::set_permissions(&path, PermissionsExt::from_mode(inode.mode)).expect("its mode");
            }
            written.insert(number, path);
        });
    }
}

/// A good publication: the disk before it, with the inodes that it makes, and what it does.
pub struct Recording {
    pub before: Disk,
    pub operations: Vec<Operation>,
    /// As strace(1) has them.
    pub lines: Vec<String>,
    now: Disk,
    runner: Runner,
}

impl Recording {
    /// # Panics
    ///
    /// Panics at a call that it does not know: it might change something.
    pub fn of(scene: &Scene<'_>, calls: &[Call]) -> Self {
        let before = Disk::read(&scene.template);
        let (now, runner) = (before.clone(), scene.runner());
        let mut recording = Self { before, operations: Vec::new(), lines: Vec::new(), now, runner };
        for call in calls.iter().filter(|call| call.has_succeeded()) {
            if let Some(operation) = recording.operation(scene, call) {
                recording.now.apply(&operation);
                recording.operations.push(operation);
                recording.lines.push(call.line.clone());
            }
        }
        recording
    }

    fn operation(&mut self, scene: &Scene<'_>, call: &Call) -> Option<Operation> {
        let (arguments, result) = call.line.rsplit_once(" = ").expect("a result");
        let arguments: Vec<_> = arguments.trim_end().trim_end_matches(')').split(", ").collect();
        let octal = |index: usize| u32::from_str_radix(arguments[index], 8).expect("a mode");
        let decimal = |index: usize| arguments[index].parse::<u32>().expect("a number");
        let text = |index: usize| call.about[index].clone();
        let mut inode = |index: usize| self.now.find(&call.about[index]);
        Some(match call.name.as_str() {
            "openat" if call.line.contains("O_CREAT") => {
                let directory = inode(0);
                self.make(directory, text(1), Kind::File(Vec::new()), octal(3))
            }
            "mkdirat" => {
                let directory = inode(0);
                self.make(directory, text(1), Kind::Directory(BTreeMap::new()), octal(2))
            }
            "mkdir" => {
                let (parent, name) = call.about[0].rsplit_once('/').expect("a path");
                let directory = self.now.find(parent);
                // The program sets its umask aside for this one.
                let umask = std::mem::take(&mut self.runner.umask);
                let made = self.make(directory, name.to_owned(), Kind::Directory(BTreeMap::new()), octal(1));
                self.runner.umask = umask;
                made
            }
            "symlinkat" => {
                let directory = inode(1);
                self.make(directory, text(2), Kind::Link(text(0)), 0o777)
            }
            "linkat" => {
                let (from, to) = (inode(0), inode(2));
                Operation::Entries(vec![(to, text(3), Some(self.now.entries(from)[&text(1)]))])
            }
            "renameat" => {
                let (from, to) = (inode(0), inode(2));
                let moved = self.now.entries(from)[&text(1)];
                Operation::Entries(vec![(from, text(1), None), (to, text(3), Some(moved))])
            }
            "unlinkat" => Operation::Entries(vec![(inode(0), text(1), None)]),
            "fchmod" => Operation::Mode(inode(0), octal(1)),
            "fchown" => {
                let inode = inode(0);
                let (user, group) = self.now.0[inode].owner;
                let new = |index: usize, old| if arguments[index] == "-1" { old } else { decimal(index) };
                Operation::Owner(inode, (new(1, user), new(2, group)))
            }
            "fchownat" => {
                let directory = inode(0);
                Operation::Owner(self.now.entries(directory)[&text(1)], (decimal(2), decimal(3)))
            }
            "write" => {
                let (file, length) = (inode(0), result.parse::<usize>().expect("a length"));
                let offset = self.now.data(file).len();
                let name = call.about[0].rsplit('/').next().expect("a name");
                let bytes = if FLEETING.contains(&name) {
                    vec![b'x'; length]
                } else {
                    scene.new[name][offset..offset + length].to_vec()
                };
                Operation::Data(file, offset, bytes)
            }
            "fsync" => Operation::Sync(inode(0)),
            "ftruncate" if decimal(1) == 0 => {
                let file = inode(0);
                if self.now.data(file).is_empty() {
                    return None;
                }
                Operation::Emptied(file)
            }
            "openat" if !call.line.contains("O_TRUNC") => return None,
            "close" | "fcntl" | "flock" | "getdents64" | "lseek" | "newfstatat" | "read" | "readlink"
            | "readlinkat" | "statx" => return None,
            _ => panic!("what does it change? {}", call.line),
        })
    }

    /// A new inode with its entry. Both have the attributes that open(2) gives.
    fn make(&mut self, directory: Number, name: String, kind: Kind, mode: u32) -> Operation {
        let parent = &self.now.0[directory];
        let setgid = parent.mode & 0o2000;
        let gid = if setgid == 0 { self.runner.gid } else { parent.owner.1 };
        let mode = match kind {
            Kind::Link(_) => mode,
            Kind::File(_) => mode & !self.runner.umask,
            Kind::Directory(_) => mode & !self.runner.umask | setgid,
        };
        let inode = Inode { kind, mode, owner: (self.runner.uid, gid) };
        self.before.0.push(inode.clone());
        self.now.0.push(inode);
        Operation::Entries(vec![(directory, name, Some(self.now.0.len() - 1))])
    }
}
