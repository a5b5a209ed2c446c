//! The one verdict on a part of the files: is it good now?

use std::time::SystemTime;

use super::facts::Facts;
use super::part::Part;
use crate::identity::svid_info::SvidInfo;

/// What is wrong now with the part that has these facts: the sentence that all print. `None`: it is good. Publication,
/// `/ready`, `check`, `run` and systemd ask this function.
pub(crate) fn fault(part: &dyn Part, facts: &Facts, now: SystemTime) -> Option<String> {
    let svid = facts.svid.as_ref()?;
    if let Some(fault) = svid.dates().fault(now) {
        return Some(of_svid(&part.name(), svid, &fault));
    }
    let (field, error) = facts.trust.as_ref()?.check(now).err()?;
    Some(format!("{}: {error}", part.file_of(field)))
}

/// The same for an SVID of this name that is in no file, and whose chain does not matter.
pub(super) fn fault_of_dates(name: &str, svid: &SvidInfo, now: SystemTime) -> Option<String> {
    Some(of_svid(name, svid, &svid.dates().fault(now)?))
}

fn of_svid(name: &str, svid: &SvidInfo, fault: &str) -> String {
    format!("{name} of {} {fault}", svid.id)
}
