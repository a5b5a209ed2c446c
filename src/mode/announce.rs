//! Log lines about publications, the names of parts in them, and what others are told.

use std::path::Path;

use crate::identity::svid_info::SvidInfo;
use crate::layout::Part;
use crate::notify::HookEnvironment;
use crate::store::Publication;
use crate::timestamp::rfc3339;

/// Logs that the files of a part were published, or were there already. `change` names what is new in
/// them, if files were there before.
pub(crate) fn written(
    part: Part<'_>,
    svid: Option<&SvidInfo>,
    publication: Publication,
    change: Option<&str>,
    path: &Path,
) {
    let (what, path) = (describe(part, svid), path.display());
    if publication == Publication::Unchanged {
        return log::debug!("{what} is already in {path}; nothing written");
    }
    let change = change.map(|change| format!(": {change}")).unwrap_or_default();
    let Some(svid) = svid else {
        return log::info!(path:%; "published {what} in {path}{change}");
    };
    let (id, not_after) = (&svid.id, rfc3339(svid.not_after, 0));
    let not_after = not_after.as_str();
    match svid.serial() {
        Some(serial) => {
            log::info!(spiffe_id:% = id, serial, not_after, path:%; "published {what} in {path}{change}")
        }
        None => log::info!(spiffe_id:% = id, not_after, path:%; "published {what} in {path}{change}"),
    }
}

/// Logs that the files of a part were removed.
pub(crate) fn removed(part: Part<'_>, path: &Path) {
    log::info!("removed {} from {}", name(part), path.display());
}

/// A part and its SVID.
fn describe(part: Part<'_>, svid: Option<&SvidInfo>) -> String {
    let Some(svid) = svid else { return name(part) };
    let (id, end) = (&svid.id, rfc3339(svid.not_after, 0));
    match part {
        Part::JwtSvid(layout) => {
            let (audience, name) = (layout.file.audience.join(", "), &layout.file.name);
            format!("the JWT-SVID of {id} for {audience} (valid until {end}) as {name}")
        }
        _ => format!("{id} (serial {}, valid until {end})", svid.serial().unwrap_or_default()),
    }
}

/// A part.
pub(crate) fn name(part: Part<'_>) -> String {
    match part {
        Part::X509(_) => "the X.509-SVID".to_owned(),
        Part::JwtSvid(layout) => format!("the JWT-SVID {}", layout.file.name),
        Part::JwtBundles(layout) => format!("the JWT bundles as {}", layout.name),
    }
}

/// A part with its verb.
pub(crate) fn is(part: Part<'_>) -> String {
    let verb = if matches!(part, Part::JwtBundles(_)) { "are" } else { "is" };
    format!("{} {verb}", name(part))
}

/// What a hook learns of a publication.
pub(crate) fn to_hook(svid: Option<&SvidInfo>, path: &Path) -> HookEnvironment {
    HookEnvironment {
        svid_path: path.to_owned(),
        spiffe_id: svid.map(|svid| svid.id.as_str().to_owned()),
        not_after: svid.map(|svid| rfc3339(svid.not_after, 0)),
    }
}

/// The state, for systemd, while all is well.
pub(crate) fn status(svid: Option<&SvidInfo>, path: &Path) -> String {
    match svid {
        Some(svid) => format!("{} is published in {}", svid.id, path.display()),
        None => format!("everything is published in {}", path.display()),
    }
}

/// The sentence that a part's SVID is not valid yet.
pub(crate) fn not_valid_yet(part: Part<'_>, svid: &SvidInfo) -> String {
    let begin = rfc3339(svid.not_before, 0);
    format!("{} of {} is not valid until {begin}: is a clock wrong?", name(part), svid.id)
}

/// The sentence that a part's SVID has expired.
pub(crate) fn expired(part: Part<'_>, svid: &SvidInfo) -> String {
    format!("{} of {} expired at {}", name(part), svid.id, rfc3339(svid.not_after, 0))
}
