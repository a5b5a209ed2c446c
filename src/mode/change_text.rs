//! Describes the changes of a publication, for the log.

use crate::identity::bundle::BundleInfo;
use crate::material::Facts;

/// Names each difference between the earlier files and the new ones.
pub(crate) fn describe(before: &Facts, after: &Facts) -> String {
    let mut changes = Vec::new();
    match (&before.svid, &after.svid) {
        (Some(before), Some(after)) if before.id != after.id => {
            changes.push(format!("identity was {}", before.id));
        }
        (Some(before), Some(after)) if before != after && after.serial().is_some() => {
            changes.push("rotated".to_owned());
        }
        // A new token may have the dates of the one before.
        (_, Some(after)) if after.serial().is_none() => changes.push("renewed".to_owned()),
        _ => {}
    }
    if before.keys != after.keys {
        changes.push("keys changed".to_owned());
    }
    if before.crls != after.crls {
        changes.push("revocation lists changed".to_owned());
    }
    // The bundles in files of an earlier process may not be known.
    let known = if before.bundles.is_empty() { &[][..] } else { &after.bundles };
    for (index, bundle) in known.iter().enumerate() {
        let old = before.bundles.iter().find(|old| old.trust_domain == bundle.trust_domain);
        if let Some(change) = change_of(old, bundle) {
            let of = if index > 0 { format!("federated {}: ", bundle.trust_domain) } else { String::new() };
            changes.push(of + &change);
        }
    }
    let is_gone = |old: &&BundleInfo| after.bundles.iter().all(|new| new.trust_domain != old.trust_domain);
    let gone = before.bundles.iter().filter(is_gone);
    changes.extend(gone.map(|bundle| format!("bundle of {} removed", bundle.trust_domain)));
    if changes.is_empty() { "files changed".to_owned() } else { changes.join(", ") }
}

fn change_of(before: Option<&BundleInfo>, after: &BundleInfo) -> Option<String> {
    let Some(before) = before else { return Some("bundle added".to_owned()) };
    let added = after.authorities.difference(&before.authorities).count();
    let removed = before.authorities.difference(&after.authorities).count();
    let count = |number, what| match number {
        0 => None,
        1 => Some(format!("CA {what}")),
        number => Some(format!("{number} CAs {what}")),
    };
    let changes: Vec<_> = [count(added, "added"), count(removed, "removed")].into_iter().flatten().collect();
    (!changes.is_empty()).then(|| changes.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::identity::spiffe_id::SpiffeId;
    use crate::identity::svid_info::{Kind, SvidInfo};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn svid(serial: &str) -> SvidInfo {
        SvidInfo {
            id: "spiffe://example.org/a".parse().unwrap(),
            kind: Kind::X509 { serial: serial.into() },
            issued_at: at(0),
            not_before: Some(at(0)),
            not_after: at(9),
        }
    }

    fn bundle(trust_domain: &str, authorities: &[u64]) -> BundleInfo {
        let id: SpiffeId = format!("spiffe://{trust_domain}/a").parse().unwrap();
        BundleInfo {
            trust_domain: id.trust_domain(),
            earliest_expiry: at(9),
            authorities: authorities.iter().copied().collect(),
        }
    }

    #[test]
    fn other_keys_and_tokens_of_equal_dates_have_words_of_their_own() {
        let keys = |keys| Facts { keys: Some(keys), ..Facts::default() };
        assert_eq!(describe(&keys(1), &keys(2)), "keys changed");
        let token = Facts { svid: Some(SvidInfo { kind: Kind::Jwt, ..svid("") }), ..Facts::default() };
        assert_eq!(describe(&token, &token), "renewed");
    }

    #[test]
    fn each_difference_has_a_word_of_its_own() {
        let (one, two) = (svid("1"), svid("2"));
        let own = bundle("example.org", &[1]);
        let other = bundle("other.org", &[7]);
        let grown = bundle("example.org", &[1, 2]);
        let replaced = bundle("other.org", &[8]);
        let all = [own.clone(), other.clone()];
        for (svid, bundles, words) in [
            (&two, all.to_vec(), "rotated"),
            (&one, vec![grown.clone(), other.clone()], "CA added"),
            (&two, vec![grown.clone(), other.clone()], "rotated, CA added"),
            (&one, vec![own.clone(), replaced], "federated other.org: CA added, CA removed"),
            (&one, vec![own.clone()], "bundle of other.org removed"),
            (&one, all.to_vec(), "files changed"),
        ] {
            let facts = |svid: &SvidInfo, bundles: &[BundleInfo]| Facts {
                svid: Some(svid.clone()),
                bundles: bundles.to_vec(),
                ..Facts::default()
            };
            assert_eq!(describe(&facts(&one, &all), &facts(svid, &bundles)), words);
        }
    }
}
