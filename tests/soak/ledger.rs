//! All sets that the agent has offered, as files have them, for readers to compare with.

use std::collections::HashMap;
use std::sync::RwLock;
use std::time::{Duration, SystemTime};

use der::pem::{LineEnding, encode_string};
use pod_svid_helper::for_tests::workload::X509SVID;

use crate::pod::{ID, version_1};
use crate::workload_api_server::authority::{Authority, Recipe};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// PEM, and the number of the set.
type Numbers = HashMap<String, usize>;

pub struct Ledger {
    /// Two CAs of one trust domain, so that a wrong bundle is noticed.
    authorities: [Authority; 2],
    bundles: [String; 2],
    offered: RwLock<Offered>,
}

#[derive(Default)]
struct Offered {
    chains: Numbers,
    keys: Numbers,
}

/// What a reader has read.
pub struct Reading {
    pub chain: String,
    pub key: String,
    /// Not in a combined file.
    pub bundle: Option<String>,
}

/// What a reading is, if each file in it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One set: that with this number.
    Set(usize),
    /// Files of different sets.
    Mixture,
}

impl Ledger {
    pub fn new() -> Self {
        let authorities = [(); 2].map(|()| Authority::new("example.org"));
        let bundles = [&authorities[0], &authorities[1]].map(|authority| certificates(&authority.bundle()));
        Self { authorities, bundles, offered: RwLock::default() }
    }

    /// Mints the SVID of the next set, and gives its chain as a file has it.
    pub fn mint(&self) -> (X509SVID, String) {
        let mut offered = self.offered.write().expect("no panic of another thread");
        let number = offered.chains.len();
        let now = SystemTime::now();
        let recipe = Recipe { not_before: now - DAY, not_after: now + 3 * DAY, ..Recipe::for_id(ID) };
        let svid = self.authorities[number % 2].mint(&recipe);
        let key = encode_string("PRIVATE KEY", LineEnding::LF, &version_1(&svid.x509_svid_key)).expect("PEM");
        let chain = certificates(&svid.x509_svid);
        offered.keys.insert(key, number);
        offered.chains.insert(chain.clone(), number);
        (svid, chain)
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.offered.read().expect("no panic of another thread").chains.len()
    }

    /// Looks up what was read; an error if a file is not whole, or was never offered.
    pub fn judge(&self, reading: &Reading) -> Result<Verdict, String> {
        let offered = self.offered.read().expect("no panic of another thread");
        let chain = *offered.chains.get(&reading.chain).ok_or("no such chain was offered")?;
        let key = *offered.keys.get(&reading.key).ok_or("no such key was offered")?;
        let is_right = match &reading.bundle {
            None => true,
            Some(bundle) if self.bundles.contains(bundle) => *bundle == self.bundles[chain % 2],
            Some(_) => return Err("no such bundle was offered".to_owned()),
        };
        Ok(if chain == key && is_right { Verdict::Set(chain) } else { Verdict::Mixture })
    }
}

/// One certificate as PEM: no chain and no bundle here has more.
fn certificates(der: &[u8]) -> String {
    encode_string("CERTIFICATE", LineEnding::LF, der).expect("PEM")
}
