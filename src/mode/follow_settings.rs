//! The settings of the loop of `init`, `refresh` and `run`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::desired_set::OnRevoked;
use crate::identity::selection::Selection;
use crate::layout::Layout;
use crate::source::Until;
use crate::store::owner::Owner;
use crate::workload_api::endpoint::Endpoint;
use crate::{notify, supervise};

/// What to fetch, where to write it, and what to notify.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) end: End,
    pub(crate) endpoint: Endpoint,
    pub(crate) selection: Selection,
    pub(crate) layout: Layout,
    pub(crate) svid_path: PathBuf,
    /// The owner of the files, if not this process's user.
    pub(crate) owner: Option<Owner>,
    pub(crate) on_revoked: OnRevoked,
    pub(crate) notify: notify::Settings,
    pub(crate) http_address: Option<SocketAddr>,
}

impl Settings {
    /// Whether a hook or an application is started.
    pub(crate) fn has_children(&self) -> bool {
        self.notify.hook.is_some() || self.end.application().is_some()
    }
}

/// When the loop ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// `init`: when everything is published and notified, or after so long.
    Published { within: Duration },
    /// `refresh`: at a signal.
    Stopped,
    /// `run`: when the application has ended.
    ApplicationEnded(supervise::Settings),
}

impl End {
    /// For how long the sources are followed.
    pub(crate) fn until(&self) -> Until {
        match self {
            Self::Published { .. } => Until::FirstSuccess,
            Self::Stopped | Self::ApplicationEnded(_) => Until::Stopped,
        }
    }

    /// The application whose end it is.
    pub(crate) fn application(&self) -> Option<&supervise::Settings> {
        match self {
            Self::ApplicationEnded(settings) => Some(settings),
            Self::Published { .. } | Self::Stopped => None,
        }
    }
}

impl fmt::Display for End {
    /// The mode's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published { .. } => "init",
            Self::Stopped => "refresh",
            Self::ApplicationEnded(_) => "run",
        })
    }
}
