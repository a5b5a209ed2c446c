//! The user and the group that published files are given to.

use std::fmt;
use std::str::FromStr;

use nix::unistd::{Gid, Uid};

use crate::words::Flaw;

/// `UID` or `UID:GID`, both numbers: an image from scratch has no `/etc/passwd` to look names up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user.
    pub(super) uid: Uid,
    /// The group; without one, a file has the group that any new file has there.
    pub(super) gid: Option<Gid>,
}

impl FromStr for Owner {
    type Err = Flaw;

    fn from_str(text: &str) -> Result<Self, Flaw> {
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            // The last number means "unchanged" to chown.
            text.parse().ok().filter(|number: &u32| is_plain && *number != u32::MAX).ok_or(Flaw::obvious())
        };
        match text.split_once(':') {
            None => Ok(Self { uid: number(text)?.into(), gid: None }),
            Some((uid, gid)) => Ok(Self { uid: number(uid)?.into(), gid: Some(number(gid)?.into()) }),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gid {
            None => write!(f, "{}", self.uid),
            Some(gid) => write!(f, "{}:{gid}", self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_one_number_or_two() {
        for good in ["0", "999", "999:0", "65532:65532"] {
            assert_eq!(good.parse::<Owner>().map(|owner| owner.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ":", "999:", ":999", "-1", "+1", "postgres", "1:2:3", "4294967295", "4294967296"] {
            assert_eq!(bad.parse::<Owner>(), Err(Flaw::obvious()), "{bad}");
        }
    }
}
