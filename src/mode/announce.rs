//! Text about a publication: its log line, the variables of a hook, the status for systemd.

use std::path::Path;

use log::Level;

use super::change_text;
use super::item::Item;
use crate::identity::svid_info::SvidInfo;
use crate::material::Facts;
use crate::process::environment::Variables;
use crate::store::Publication;
use crate::time::timestamp::rfc3339;

/// Logs that the newest files of an item were published, or were there already; with the change, if files were
/// there before. `hint` chooses the identity, if there is one.
pub(super) fn written(item: &Item<'_>, publication: Publication, path: &Path, hint: Option<&str>) {
    // There always are facts: `Item::accept` sets them with the files, and both are dropped together.
    let Some(facts) = &item.newest else { return };
    let path = path.display();
    let what = describe(item, facts);
    let is_known = item.is_known(publication);
    if is_known && (publication != Publication::Replaced || item.is_there) {
        return log::debug!("{what} is already in {path}; nothing written");
    }
    let change = match item.before() {
        Some(_) if item.lost.is_some() && is_known => ": files restored".to_owned(),
        Some(before) => format!(": {}", change_text::describe(before, facts)),
        None => String::new(),
    };
    let news = match publication {
        Publication::Found => format!("another helper has put {what} into {path}{change}"),
        _ => format!("published {what} in {path}{change}"),
    };
    let Some(svid) = &facts.svid else {
        return log::info!(path:%; "{news}");
    };
    let before = item.before().and_then(|facts| facts.svid.as_ref());
    let (level, advice) = if before.is_some_and(|before| before.id != svid.id) {
        let place = hint.map_or("first".to_owned(), |hint| format!("with the hint {hint:?}"));
        let advice =
            format!(" (the agent now offers another identity {place}; choose one with --pod-spiffe-id)");
        (Level::Warn, advice)
    } else {
        (Level::Info, String::new())
    };
    let (id, not_after) = (&svid.id, rfc3339(svid.not_after, 0));
    let (not_after, text) = (not_after.as_str(), format!("{news}{advice}"));
    match svid.serial() {
        Some(serial) => log::log!(level, spiffe_id:% = id, serial, not_after, path:%; "{text}"),
        None => log::log!(level, spiffe_id:% = id, not_after, path:%; "{text}"),
    }
}

/// Logs what another helper has left of an item, if anything.
pub(super) fn found(item: &Item<'_>, path: &Path) {
    if let Some(facts) = &item.published {
        log::info!("found {} in {}", describe(item, facts), path.display());
    }
}

fn describe(item: &Item<'_>, facts: &Facts) -> String {
    facts.svid.as_ref().map_or_else(|| item.part.name(), |svid| item.part.describe(svid))
}

/// What a hook learns of a publication: the directory of the files; the identity, and when the SVID expires, if one is
/// published.
pub(super) fn hook_environment(svid: Option<&SvidInfo>, path: &Path) -> Variables {
    vec![
        ("SVID_PATH", Some(path.into())),
        ("SVID_SPIFFE_ID", svid.map(|svid| svid.id.as_str().into())),
        ("SVID_NOT_AFTER", svid.map(|svid| rfc3339(svid.not_after, 0).into())),
    ]
}

/// The state, for systemd, while all is well.
pub(super) fn status(svid: Option<&SvidInfo>, path: &Path) -> String {
    match svid {
        Some(svid) => format!("{} is published in {}", svid.id, path.display()),
        None => format!("everything is published in {}", path.display()),
    }
}
