//! What of a publication a loss of power may take away: the method of ALICE (Pillai and others, OSDI 2014).
//!
//! An operation may be lost unless a later fsync(2) has put it on disk: that of a file does it for its data and
//! attributes, that of a directory for its entries and attributes. Nothing syncs the owner of a link.

use super::disk::{Disk, Operation, Recording};

/// What a file system keeps of the operations that were not synced.
#[derive(Debug, Clone, Copy)]
pub enum Model {
    /// Any of them. A log with single files and directories (fsync of btrfs) or files (f2fs) may have one without
    /// those before it.
    Posix,
    /// All before one of them, as in the journal of ext4 (data=ordered) or xfs; but data may be missing.
    Ordered,
}

impl Model {
    pub const ALL: [Self; 2] = [Self::Posix, Self::Ordered];
}

/// What has become of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Lost,
    /// Half of the data is there.
    Half,
    /// The length is right, the bytes are not.
    Garbage,
}

impl Fate {
    fn all_of(operation: &Operation) -> &'static [Self] {
        match operation {
            Operation::Data(..) => &[Self::Kept, Self::Lost, Self::Half, Self::Garbage],
            _ => &[Self::Kept, Self::Lost],
        }
    }
}

/// Those that are not kept, by their index.
type Fates = Vec<(usize, Fate)>;

/// Up to how many operations (data counts twice) every combination is tried; with more, they are lost or kept one
/// by one, in pairs, and from one of them on.
const EXHAUSTIVE: u32 = 12;

/// A loss of power.
pub struct Loss {
    /// How many operations came before it.
    pub moment: usize,
    pub fates: Fates,
}

impl Loss {
    /// What is on disk after it.
    pub fn disk(&self, recording: &Recording) -> Disk {
        let mut disk = recording.before.clone();
        for (index, operation) in recording.operations[..self.moment].iter().enumerate() {
            let fate = self.fates.iter().find(|(lost, _)| *lost == index).map(|(_, fate)| fate);
            match (fate, operation) {
                (None, _) => disk.apply(operation),
                (Some(Fate::Half), Operation::Data(file, offset, bytes)) => {
                    disk.apply(&Operation::Data(*file, *offset, bytes[..bytes.len() / 2].to_vec()));
                }
                (Some(Fate::Garbage), Operation::Data(file, offset, bytes)) => {
                    disk.apply(&Operation::Data(*file, *offset, vec![0; bytes.len()]));
                }
                (Some(_), _) => {}
            }
        }
        disk
    }

    /// In words, for a failure.
    pub fn describe(&self, recording: &Recording) -> String {
        let lines = &recording.lines;
        let lost = self.fates.iter().map(|(index, fate)| format!("\n  {fate:?}: {}", lines[*index]));
        let last = self.moment.checked_sub(1).map_or("the start", |last| &lines[last]);
        format!("power is lost after {last}{}", lost.collect::<String>())
    }
}

/// All losses of power at this moment.
pub fn losses(recording: &Recording, model: Model, moment: usize) -> Vec<Loss> {
    let operations = &recording.operations[..moment];
    let is_data = |index: usize| matches!(operations[index], Operation::Data(..));
    let may_be_lost = |index: &usize| {
        let is_sync =
            |by: &Operation| matches!(by, Operation::Sync(it) if operations[*index].is_synced_by(*it));
        !operations[index + 1..].iter().any(is_sync)
    };
    let changes = (0..moment).filter(|index| !matches!(operations[*index], Operation::Sync(_)));
    let (at_risk, synced): (Vec<_>, Vec<_>) = changes.partition(may_be_lost);
    let found = match model {
        Model::Posix => combinations(operations, &at_risk),
        Model::Ordered => {
            let (data, mut journal): (Vec<_>, Vec<_>) = at_risk.iter().partition(|index| is_data(**index));
            let last = synced.into_iter().rfind(|index| !is_data(*index));
            journal.retain(|index| Some(*index) > last);
            let with = |fates: Fates| {
                let journal = &journal;
                (0..=journal.len()).map(move |kept| [lost(&journal[kept..]), fates.clone()].concat())
            };
            combinations(operations, &data).into_iter().flat_map(with).collect()
        }
    };
    found.into_iter().map(|fates| Loss { moment, fates }).collect()
}

fn lost(indices: &[usize]) -> Fates {
    indices.iter().map(|index| (*index, Fate::Lost)).collect()
}

fn combinations(operations: &[Operation], indices: &[usize]) -> Vec<Fates> {
    let size: u32 = indices.iter().map(|index| Fate::all_of(&operations[*index]).len().ilog2()).sum();
    if size <= EXHAUSTIVE { all(operations, indices) } else { some(operations, indices) }
}

/// Every combination.
fn all(operations: &[Operation], indices: &[usize]) -> Vec<Fates> {
    indices.iter().fold(vec![Vec::new()], |found: Vec<Fates>, index| {
        let with = |fate: &Fate| {
            let fate = (*fate != Fate::Kept).then_some((*index, *fate));
            found.iter().map(move |before| before.iter().copied().chain(fate).collect())
        };
        Fate::all_of(&operations[*index]).iter().flat_map(with).collect()
    })
}

/// One or two are lost, all but one or two are lost, or all from one of them on are lost.
fn some(operations: &[Operation], indices: &[usize]) -> Vec<Fates> {
    let mut found = Vec::new();
    for (place, first) in indices.iter().enumerate() {
        found.push(lost(&indices[place..]));
        for second in &indices[place..] {
            let mut pair = vec![*first, *second];
            pair.dedup();
            let others: Vec<_> = indices.iter().copied().filter(|index| !pair.contains(index)).collect();
            for fates in all(operations, &pair) {
                found.push([lost(&others), fates.clone()].concat());
                found.push(fates);
            }
        }
    }
    found
}
