//! All sets that the agent has offered, as files have them, for readers to compare with.

use std::collections::HashMap;
use std::sync::RwLock;
use std::time::{Duration, SystemTime};

use der::pem::{LineEnding, encode_string};
use pod_svid_helper::for_tests::workload::{WITSVID, X509SVID};
use workload_api_server::authority::{Authority, Recipe};
use workload_api_server::wit::{WitRecipe, seconds};

use crate::pod::{ID, version_1};

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
    tokens: Numbers,
    wit_keys: Numbers,
}

/// What the agent offers, and how a reader knows it.
pub struct Set {
    pub svid: X509SVID,
    pub wit: WITSVID,
    pub shown: Shown,
}

/// What shows which set stands: the chain and the WIT-SVID, as files have them. One may be published before the
/// other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    pub chain: String,
    pub token: String,
}

/// What a reader has read.
pub enum Reading {
    X509 {
        chain: String,
        key: String,
        /// Not in a combined file.
        bundle: Option<String>,
    },
    Wit {
        token: String,
        key: String,
    },
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

    /// Mints the SVIDs of the next set.
    pub fn mint(&self) -> Set {
        let mut offered = self.offered.write().expect("no panic of another thread");
        let number = offered.chains.len();
        let now = SystemTime::now();
        let recipe = Recipe { not_before: now - DAY, not_after: now + 3 * DAY, ..Recipe::for_id(ID) };
        let svid = self.authorities[number % 2].mint(&recipe);
        let key = encode_string("PRIVATE KEY", LineEnding::LF, &version_1(&svid.x509_svid_key)).expect("PEM");
        let chain = certificates(&svid.x509_svid);
        offered.keys.insert(key, number);
        offered.chains.insert(chain.clone(), number);
        let mut wit = WitRecipe::for_id(ID).ttl(3 * DAY);
        wit.claims["nbf"] = seconds(now - DAY).into();
        let wit = wit.mint(&self.authorities[number % 2]);
        let token = wit.wit_svid.clone();
        offered.tokens.insert(token.clone(), number);
        offered.wit_keys.insert(wit.wit_svid_key.clone(), number);
        Set { svid, wit, shown: Shown { chain, token } }
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.offered.read().expect("no panic of another thread").chains.len()
    }

    /// Looks up what was read; an error if a file is not whole, or was never offered.
    pub fn judge(&self, reading: &Reading) -> Result<Verdict, String> {
        let offered = self.offered.read().expect("no panic of another thread");
        let (number, is_one_set) = match reading {
            Reading::X509 { chain, key, bundle } => {
                let chain = *offered.chains.get(chain).ok_or("no such chain was offered")?;
                let key = *offered.keys.get(key).ok_or("no such key was offered")?;
                let is_right = match bundle {
                    None => true,
                    Some(bundle) if self.bundles.contains(bundle) => *bundle == self.bundles[chain % 2],
                    Some(_) => return Err("no such bundle was offered".to_owned()),
                };
                (chain, chain == key && is_right)
            }
            Reading::Wit { token, key } => {
                let token = *offered.tokens.get(token).ok_or("no such WIT-SVID was offered")?;
                let key = *offered.wit_keys.get(key).ok_or("no such key of a WIT-SVID was offered")?;
                (token, token == key)
            }
        };
        Ok(if is_one_set { Verdict::Set(number) } else { Verdict::Mixture })
    }
}

/// One certificate as PEM: no chain and no bundle here has more.
fn certificates(der: &[u8]) -> String {
    encode_string("CERTIFICATE", LineEnding::LF, der).expect("PEM")
}
