//! Certificate revocation lists. A list is kept until its issuer's next one: a missing or bad list must not
//! un-revoke a certificate.

use std::cell::LazyCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::SystemTime;

use der::Decode;
use der::asn1::{OctetString, Uint};
use x509_cert::certificate::Raw;
use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, SubjectKeyIdentifier};

use super::certificate::{Certificate, extension, unreadable};
use super::digest;
use super::distinguished_name::{Comparable, Sameness, text_of};
use super::limits::MAX_REVOCATION_LISTS;
use super::raw::{hexadecimal, shortened};
use crate::time::timestamp::rfc3339;
use crate::time::timing::CLOCKS_DIFFER;
use crate::words::{Flaw, first_few, flaw};

/// One list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RevocationList {
    pub(crate) der: Vec<u8>,
    issuer: Comparable,
    /// Of the issuer's key: CAs of a trust domain may share a name.
    key: Option<OctetString>,
    number: Option<Uint>,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
}

impl RevocationList {
    /// Checks that this is a list. No signature is verified: it comes from the agent.
    pub(crate) fn parse(der: Vec<u8>) -> Result<Self, Flaw> {
        let list = list_of(&der)?;
        // In a list that breaks the rules for it, the name alone says whose it is.
        let key = extension::<AuthorityKeyIdentifier>(list.crl_extensions.as_ref()).ok().flatten();
        let number = extension::<CrlNumber>(list.crl_extensions.as_ref()).ok().flatten();
        Ok(Self {
            der,
            issuer: Comparable::of(&list.issuer),
            key: key.and_then(|key| key.key_identifier),
            number: number.map(|number| number.0),
            this_update: list.this_update.to_system_time(),
            next_update: list.next_update.map(|time| time.to_system_time()),
        })
    }

    /// The same of all lists of one issuer.
    fn issuer(&self) -> (&Comparable, Option<&OctetString>) {
        (&self.issuer, self.key.as_ref())
    }

    /// Whether this CA may have issued it: by its name and, where both have one, by the identifier of its key.
    fn may_be_of(&self, ca: &Ca) -> bool {
        let has_key = self.key.as_ref().zip(ca.key.as_ref()).is_none_or(|(own, key)| *own == key.0);
        has_key && self.issuer.compare(&ca.name) != Sameness::Different
    }

    /// Whether it is older than another list of its issuer, or newer, by its date. Of one date, the number decides, if
    /// both have one (RFC 5280, section 5.2.3): an issuer that has lost its count must not stay without a list. One from
    /// the future is the older one, for it must not hold up all later ones.
    fn age(&self, other: &Self, now: SystemTime) -> Ordering {
        let by_future = other.is_from_the_future(now).cmp(&self.is_from_the_future(now));
        let numbers = self.number.as_ref().zip(other.number.as_ref());
        let by_number = numbers.map_or(Ordering::Equal, |(own, other)| own.cmp(other));
        by_future.then(self.this_update.cmp(&other.this_update)).then(by_number)
    }

    fn is_from_the_future(&self, now: SystemTime) -> bool {
        self.this_update.duration_since(now).is_ok_and(|ahead| ahead > CLOCKS_DIFFER)
    }
}

/// What tells which lists a CA may have issued.
struct Ca {
    name: Comparable,
    key: Option<SubjectKeyIdentifier>,
}

impl Ca {
    fn read(der: &[u8]) -> Option<Self> {
        let ca = Certificate::parse(der, 0).ok()?;
        Some(Self { name: Comparable::of(ca.fields().subject()), key: ca.key_id() })
    }
}

/// The fields of a list.
fn list_of(der: &[u8]) -> Result<TbsCertList<Raw>, Flaw> {
    // `Raw` accepts serial numbers that RFC 5280 does not allow.
    let list = CertificateList::from_der(der).map_err(|cause: der::Error| {
        flaw!("not a DER certificate revocation list: {}", shortened(&cause.to_string()))
    })?;
    Ok(list.tbs_cert_list)
}

/// A list, for a person.
pub(crate) struct CrlDetails {
    /// Its issuer's name, as RFC 4514 writes it.
    pub(crate) issuer: String,
    /// Its number in lowercase hexadecimal, if it has one.
    pub(crate) number: Result<Option<String>, Flaw>,
    pub(crate) this_update: SystemTime,
    pub(crate) next_update: Option<SystemTime>,
    /// How many certificates it revokes.
    pub(crate) revoked: usize,
}

impl CrlDetails {
    /// Reads a list of any age.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Flaw> {
        let list = list_of(der)?;
        let number = extension::<CrlNumber>(list.crl_extensions.as_ref()).map_err(unreadable("cRLNumber"));
        Ok(Self {
            issuer: shortened(&text_of(&list.issuer)),
            number: number.map(|number| number.map(|number| hexadecimal(number.0.as_bytes()))),
            this_update: list.this_update.to_system_time(),
            next_update: list.next_update.map(|time| time.to_system_time()),
            revoked: list.revoked_certificates.unwrap_or_default().len(),
        })
    }
}

/// The newest lists of each issuer, in an order that depends on them alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RevocationLists(Vec<Rc<RevocationList>>);

impl RevocationLists {
    /// Checks each list on its own. Gives the good ones, and what is wrong with the others.
    pub(crate) fn parse(ders: Vec<Vec<u8>>) -> (Self, Vec<String>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let count = ders.len();
        for (index, der) in ders.into_iter().take(MAX_REVOCATION_LISTS).enumerate() {
            match RevocationList::parse(der) {
                Ok(list) => good.push(Rc::new(list)),
                Err(error) => bad.push(format!("left out crl[{index}]: {error}")),
            }
        }
        let mut flaws = first_few(bad);
        flaws.extend(too_many(count));
        (Self::sorted(good), flaws)
    }

    fn sorted(mut lists: Vec<Rc<RevocationList>>) -> Self {
        lists.sort_unstable_by(|one, other| one.der.cmp(&other.der));
        lists.dedup();
        Self(lists)
    }

    /// These lists, and the `earlier` ones of issuers that have no list as new among these, as long as their CA
    /// is there. All lists of one issuer are replaced together: it may have split them. And what is wrong.
    pub(crate) fn with(self, earlier: &Self, authorities: &[&[u8]], now: SystemTime) -> (Self, Vec<String>) {
        let (newest, newest_earlier) = (self.newest(now), earlier.newest(now));
        let stays = |list: &RevocationList| {
            let (new, earlier) = (newest.get(&list.issuer()), newest_earlier.get(&list.issuer()));
            earlier.is_some_and(|earlier| new.is_none_or(|new| new.age(earlier, now).is_lt()))
        };
        let cas: LazyCell<Vec<Ca>, _> =
            LazyCell::new(|| authorities.iter().filter_map(|der| Ca::read(der)).collect());
        let is_wanted = |list: &RevocationList| stays(list) && cas.iter().any(|ca| list.may_be_of(ca));
        // The issuer alone decides.
        let wanted: BTreeSet<_> =
            newest_earlier.values().filter(|list| is_wanted(list)).map(|list| list.issuer()).collect();
        let new = self.0.iter().filter(|list| !stays(list));
        let kept = earlier.0.iter().filter(|list| wanted.contains(&list.issuer()));
        let mut lists: Vec<_> = new.chain(kept).cloned().collect();
        let from_the_future = self.0.iter().filter(|list| list.is_from_the_future(now));
        let mut flaws = first_few(from_the_future.map(|list| {
            let issuer = CrlDetails::read(&list.der).map(|list| list.issuer).unwrap_or_default();
            let begin = rfc3339(list.this_update, 0);
            format!(
                "the revocation list of {issuer} is not valid until {begin} (is a clock wrong?); it replaces no other"
            )
        }));
        flaws.extend(too_many(lists.len()));
        lists.truncate(MAX_REVOCATION_LISTS);
        (Self::sorted(lists), flaws)
    }

    /// The newest list of each issuer.
    fn newest(&self, now: SystemTime) -> BTreeMap<(&Comparable, Option<&OctetString>), &RevocationList> {
        let mut newest = BTreeMap::new();
        for list in &self.0 {
            let found: &mut &RevocationList = newest.entry(list.issuer()).or_insert(list);
            if list.age(found, now).is_gt() {
                *found = list;
            }
        }
        newest
    }

    /// The lists.
    pub(crate) fn ders(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|list| list.der.as_slice())
    }

    /// A digest of all, if there are any.
    pub(crate) fn digest(&self) -> Option<u64> {
        (!self.is_empty()).then(|| digest::of(self.ders().collect::<Vec<_>>()))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of them is due to be replaced, if one says so.
    pub(crate) fn earliest_next_update(&self) -> Option<SystemTime> {
        self.0.iter().filter_map(|list| list.next_update).min()
    }
}

/// What is left out of so many lists.
fn too_many(lists: usize) -> Option<String> {
    (lists > MAX_REVOCATION_LISTS).then(|| {
        format!("there are {lists} revocation lists; only the first {MAX_REVOCATION_LISTS} are written")
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::identity::limits::MAX_BUNDLE;
    use crate::time::clock::thread_time;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        match length {
            [0, short @ ..0x80] => [&[tag, short][..], &value].concat(),
            _ => [&[tag, 0x82][..], &length, &value].concat(),
        }
    }

    /// A list of an issuer, or a part of one. Commas are between the relative names of the issuer's.
    fn list(issuer: &str, this_update: SystemTime, number: Option<u8>, part: usize) -> Vec<u8> {
        let algorithm = tlv(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
        let rdn = |(index, value): (u8, &str)| {
            let oid = tlv(0x06, &[&[0x55, 4, 3], &vec![index; usize::from(index > 0)]]);
            tlv(0x31, &[&tlv(0x30, &[&oid, &tlv(0x0c, &[value.as_bytes()])])])
        };
        let name: Vec<_> = (0..).zip(issuer.split(',')).flat_map(rdn).collect();
        let digits: String = rfc3339(this_update, 0).chars().filter(char::is_ascii_digit).collect();
        let date = tlv(0x17, &[&digits.as_bytes()[2..], b"Z"]);
        let number = number.map(|number| {
            let number = tlv(0x04, &[&tlv(0x02, &[&[number]])]);
            tlv(0xa0, &[&tlv(0x30, &[&tlv(0x30, &[&[0x06, 3, 0x55, 0x1d, 0x14], &number])])])
        });
        let number = number.unwrap_or_default();
        let name = tlv(0x30, &[&name]);
        let signed = tlv(0x30, &[&[0x02, 1, 1], &algorithm, &name, &date, &number]);
        let signature = tlv(0x03, &[&[0], &part.to_be_bytes()]);
        tlv(0x30, &[&signed, &algorithm, &signature])
    }

    fn parse(lists: &[Vec<u8>]) -> RevocationLists {
        let (parsed, flaws) = RevocationLists::parse(lists.to_vec());
        assert_eq!(flaws, [""; 0]);
        parsed
    }

    fn ca(name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (index, value) in (0..).zip(name.split(',')) {
            let oid = [2, 5, 4, 3, index].into_iter().take(if index > 0 { 5 } else { 4 });
            params.distinguished_name.push(rcgen::DnType::from_oid(&oid.collect::<Vec<_>>()), value);
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Which of two lists of one issuer stays when the other one comes, and what is wrong.
    fn stays(old: (SystemTime, Option<u8>), new: (SystemTime, Option<u8>)) -> (&'static str, Vec<String>) {
        let [old, new] = [old, new].map(|(date, number)| list("ca", date, number, 0));
        let (both, flaws) = parse(std::slice::from_ref(&new)).with(&parse(&[old]), &[&ca("ca")], now());
        let is_new = both.ders().eq([new.as_slice()]);
        assert_eq!(both.ders().count(), 1);
        (if is_new { "new" } else { "old" }, flaws)
    }

    #[test]
    fn of_two_lists_the_later_date_counts_and_of_one_date_the_higher_number() {
        let (then, now) = (now() - MINUTE, now());
        for (old, new, which) in [
            ((then, None), (now, None), "new"),
            ((now, None), (then, None), "old"),
            ((now, None), (now, None), "new"),
            ((now, Some(1)), (then, Some(2)), "old"),
            ((then, Some(2)), (now, Some(1)), "new"),
            ((now, Some(1)), (now, Some(2)), "new"),
            ((now, Some(2)), (now, Some(1)), "old"),
            ((then, Some(2)), (now, None), "new"),
            ((now, None), (then, Some(2)), "old"),
        ] {
            assert_eq!(stays(old, new), (which, Vec::new()), "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_list_from_the_future_replaces_no_other_and_is_replaced_by_every_other() {
        let soon = now() + 4 * MINUTE;
        assert_eq!(stays((now(), None), (soon, None)), ("new", Vec::new()));
        let late = now() + YEAR;
        let warning = "the revocation list of CN=ca is not valid until 2028-01-15T08:00:00Z (is a clock wrong?); it replaces no other";
        assert_eq!(stays((now(), Some(1)), (late, Some(2))), ("old", vec![warning.to_owned()]));
        assert_eq!(stays((late, Some(2)), (now(), Some(1))), ("new", Vec::new()));
        // If the clock is wrong, all of them are.
        assert_eq!(stays((late, None), (late + MINUTE, None)).0, "new");
    }

    #[test]
    fn a_list_from_the_future_is_written_where_there_is_no_other() {
        let late = list("ca", now() + YEAR, None, 0);
        let (lists, flaws) = parse(&[late]).with(&RevocationLists::default(), &[&ca("ca")], now());
        assert_eq!((lists.ders().count(), flaws.len()), (1, 1));
    }

    #[test]
    fn thousands_of_lists_are_replaced_at_once() {
        let authorities = ["ca", "other"].map(ca);
        let authorities: Vec<_> = authorities.iter().map(Vec::as_slice).collect();
        let parts = |issuer: &str, date, count| {
            parse(&(0..count).map(|part| list(issuer, date, None, part)).collect::<Vec<_>>())
        };
        let start = thread_time();
        let old = parts("ca", now() - MINUTE, MAX_REVOCATION_LISTS);
        let new = parts("ca", now(), MAX_REVOCATION_LISTS);
        let (lists, flaws) = new.clone().with(&old, &authorities, now());
        assert_eq!((lists == new, flaws), (true, Vec::new()));
        let (lists, flaws) = parts("other", now(), 1).with(&lists, &authorities, now());
        assert_eq!(lists.ders().count(), MAX_REVOCATION_LISTS);
        assert_eq!(flaws, ["there are 1025 revocation lists; only the first 1024 are written"]);
        assert!(thread_time() - start < Duration::from_secs(5));
    }

    #[test]
    fn lists_and_cas_of_long_names_are_compared_at_once() {
        let long = |last: &str| "a,".repeat(110) + last;
        let other = ca(&long("b"));
        let authorities = vec![other.as_slice(); MAX_BUNDLE];
        let lists: Vec<_> =
            (0..MAX_REVOCATION_LISTS).map(|part| list(&long("c"), now(), None, part)).collect();
        let start = thread_time();
        let (kept, _) = RevocationLists::default().with(&parse(&lists), &authorities, now());
        // They may be the same.
        assert_eq!(kept.ders().count(), MAX_REVOCATION_LISTS);
        assert!(thread_time() - start < Duration::from_secs(5));
    }

    #[test]
    fn of_tens_of_thousands_of_lists_the_first_are_read_and_of_their_flaws_the_first_are_told() {
        let (lists, flaws) = RevocationLists::parse(vec![vec![0x5a]; 20_000]);
        assert!(lists.is_empty());
        assert_eq!(flaws.len(), 10, "{flaws:?}");
        assert!(flaws[7].starts_with("left out crl[7]: "), "{flaws:?}");
        assert_eq!(flaws[8], "and 1016 more");
        assert_eq!(flaws[9], "there are 20000 revocation lists; only the first 1024 are written");
    }
}
