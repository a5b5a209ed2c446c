//! What must be so after every crash and every error.

use std::path::Path;

use super::scenario::{Place, Scenario, Scene};
use super::volume::{Files, Seen, listing};

/// Which set a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Old,
    /// Some names or parts lead to the new one: where names are files, or tokens came late.
    Between,
    New,
}

impl Scene<'_> {
    /// The next run succeeds, and leaves what a good run leaves.
    pub fn next_run(&self, place: &Place) -> Result<(), String> {
        let before = listing(&place.volume());
        let next = self.run_freely(place).finish();
        let wrong = |what: String| format!("the next run: {what}\n{}before it: {before:?}", next.log);
        if !next.status.success() {
            return Err(wrong(next.status.to_string()));
        }
        let state = self.look(&place.volume()).map_err(wrong)?;
        if state != State::New {
            return Err(wrong(format!("it leaves the set {state:?}")));
        }
        let found = listing(&place.volume());
        if found != self.listing {
            return Err(wrong(format!("it leaves {found:?}, and not {:?}", self.listing)));
        }
        Ok(())
    }

    /// Which set a reader sees.
    ///
    /// # Errors
    ///
    /// It is neither, or not whole, or a private key can be read by others.
    pub fn look(&self, volume: &Path) -> Result<State, String> {
        if !volume.exists() {
            return if self.old.is_empty() { Ok(State::Old) } else { Err("the volume is gone".into()) };
        }
        let seen = Seen::look(volume, &self.files);
        let sets = [(State::Old, &self.old), (State::New, &self.new)];
        let part_of = |files: &Files, names: &[&str]| {
            let is_same = |set: &Files| names.iter().all(|name| files.get(*name) == set.get(*name));
            let found = sets.iter().find(|(_, set)| is_same(set)).map(|(state, _)| *state);
            let lengths = || files.iter().map(|(name, bytes)| (name, bytes.len())).collect::<Vec<_>>();
            found.ok_or_else(|| format!("{names:?} are of no set: {:?}", lengths()))
        };
        let mut states = Vec::new();
        for names in self.scenario.parts() {
            let through_data = seen.has_data.then(|| part_of(&seen.through_data, &names)).transpose();
            let through_data = through_data.map_err(|wrong| format!("..data: {wrong}"))?;
            states.extend(through_data);
            if self.scenario == Scenario::Sticky {
                // One name after the other, once ..data has moved.
                for name in names {
                    let by_name = part_of(&seen.by_name, &[name])?;
                    if through_data < Some(by_name) {
                        return Err(format!("{name} is of the set {by_name:?}, ..data of {through_data:?}"));
                    }
                    states.push(by_name);
                }
            } else {
                let by_name = part_of(&seen.by_name, &names)?;
                if through_data.is_some_and(|state| state != by_name) {
                    return Err(format!("the names lead to the set {by_name:?}, ..data to {through_data:?}"));
                }
                states.push(by_name);
            }
        }
        let state = match (states.iter().min(), states.iter().max()) {
            (Some(least), Some(most)) if least == most => *least,
            _ => State::Between,
        };
        has_modes(self, volume, state).map(|()| state)
    }
}

/// Keys are never open to others; directories that readers pass through are open.
fn has_modes(scene: &Scene<'_>, volume: &Path, state: State) -> Result<(), String> {
    for (path, attributes) in listing(volume) {
        if path.ends_with("/svid-key.pem")
            && !attributes.iter().all(|text| text == "-" || text.contains("00 "))
        {
            return Err(format!("others may read {path}: {attributes:?}"));
        }
        if path == "." && state == State::New && Some(&attributes) != scene.listing.get(&path) {
            return Err(format!("the volume is {attributes:?}"));
        }
    }
    Ok(())
}
