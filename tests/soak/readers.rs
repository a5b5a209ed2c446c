//! The readers, and what README promises to each.
//!
//! By name: each file is whole; files of different sets only when `..data` has moved meanwhile. Through the
//! directory behind `..data`, opened once, and in one combined file: always one set; a WIT-SVID and its key too.
//! For all, a file may be gone only when `..data` has moved meanwhile, and no set comes after a newer one.

use std::fs::{File, read_link, read_to_string};
use std::io::{ErrorKind, Result as IoResult};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;

use super::ledger::{Ledger, Reading, Verdict};
use super::plan::Random;

/// The longest pause between two readings, µs: an eager reader, which leaves room to others.
const PAUSE: u64 = 1500;

const END_OF_KEY: &str = "-----END PRIVATE KEY-----\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    ByName,
    ThroughData,
    Combined,
    Wit,
}

/// What one reader has met.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub readings: u64,
    /// Files of different sets, where that is allowed.
    pub mixtures: u64,
    /// A file was gone, since `..data` had moved.
    pub gone: u64,
}

impl Reader {
    pub const ALL: [Self; 4] = [Self::ByName, Self::ThroughData, Self::Combined, Self::Wit];

    /// Reads until it is told to end; ends with an error at what must not be.
    pub fn run(
        self,
        volume: &Path,
        ledger: &Ledger,
        mut random: Random,
        done: &AtomicBool,
    ) -> Result<Counts, String> {
        let (mut counts, mut newest) = (Counts::default(), 0);
        while !done.load(Ordering::Relaxed) {
            counts.readings += 1;
            let before = data(volume);
            let read = self.read(volume);
            let has_moved = data(volume) != before;
            match read {
                Err(error) if error.kind() == ErrorKind::NotFound && has_moved => counts.gone += 1,
                Err(error) => return Err(format!("{self:?}: {error} (..data has moved: {has_moved})")),
                Ok(reading) => match ledger.judge(&reading).map_err(|flaw| format!("{self:?}: {flaw}"))? {
                    Verdict::Set(number) if number < newest => {
                        return Err(format!("{self:?}: set {number} after set {newest}"));
                    }
                    Verdict::Set(number) => newest = number,
                    Verdict::Mixture if self == Self::ByName && has_moved => counts.mixtures += 1,
                    Verdict::Mixture => {
                        return Err(format!("{self:?}: a mixture (..data has moved: {has_moved})"));
                    }
                },
            }
            sleep(random.microseconds(PAUSE));
        }
        Ok(counts)
    }

    fn read(self, volume: &Path) -> IoResult<Reading> {
        match self {
            Self::ByName => three_files(volume),
            Self::ThroughData => three_files(&directory_of(&File::open(volume.join("..data"))?)),
            Self::Wit => {
                let data = File::open(volume.join("..data"))?;
                let read = |name| read_to_string(directory_of(&data).join(name));
                Ok(Reading::Wit { token: read("wit.jwt")?, key: read("wit.jwk")? })
            }
            Self::Combined => {
                let text = read_to_string(volume.join("combined.pem"))?;
                let end = text.find(END_OF_KEY).map_or(0, |at| at + END_OF_KEY.len());
                let (key, chain) = text.split_at(end);
                Ok(Reading::X509 { chain: chain.to_owned(), key: key.to_owned(), bundle: None })
            }
        }
    }
}

fn three_files(directory: &Path) -> IoResult<Reading> {
    let read = |name| read_to_string(directory.join(name));
    let (chain, key, bundle) = (read("svid.pem")?, read("svid-key.pem")?, Some(read("bundle.pem")?));
    Ok(Reading::X509 { chain, key, bundle })
}

/// The same directory for as long as it is open, wherever `..data` leads to.
fn directory_of(open: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(open.as_raw_fd().to_string())
}

/// What `..data` leads to: a name that is never used twice.
fn data(volume: &Path) -> Option<PathBuf> {
    read_link(volume.join("..data")).ok()
}
