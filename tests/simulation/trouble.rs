//! What may happen in a simulation, and how long the helper may need afterwards.

use std::time::Duration;

use grpcio::RpcStatusCode;

use super::agent::{Mood, Rpc};
use crate::time::backoff::chance;
use crate::time::timing::{
    AWAIT_ENDPOINT, CALL_AGAIN, CALL_RARELY, FIRST_SET, LOOK_AT_FILES, OVERDUE, SILENT_STREAM,
};

/// For what a bound does not name.
pub(super) const GRACE: Duration = Duration::from_secs(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Rotation,
    WitRotation,
    CaRotation,
    KeyRotation,
    KeyChange,
    OtherLives,
    Trouble,
    TroubleOver,
    Grant,
    Restart,
    ClockStep,
    DiskFault,
    DiskMended,
    Process,
    /// The application of `run` gets a handler, is busy, ends.
    Application,
    /// The helper gets a signal.
    Signal,
}

/// What is wrong with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Away,
    /// Back again, and without its entries for some seconds.
    Restarted,
    Mood(Mood, Option<Rpc>),
    /// Its server is away: it renews nothing.
    Stale,
    /// It has the profile of WIT-SVIDs turned off.
    Off,
}

impl Trouble {
    pub(super) fn concerns(self, rpc: Rpc) -> bool {
        match self {
            Self::Mood(_, only) => only.is_none_or(|only| only == rpc),
            Self::Off => matches!(rpc, Rpc::Wit | Rpc::WitKeys),
            Self::Stale | Self::Away | Self::Restarted => true,
        }
    }

    /// Whether the identity is withdrawn by it, if it lasts.
    pub(super) fn withdraws(self) -> bool {
        matches!(self, Self::Mood(Mood::Partial | Mood::Refuses(RpcStatusCode::PERMISSION_DENIED), None))
    }

    /// The longest time from its end to good files.
    pub(super) fn recovery(self, rpc: Rpc) -> Duration {
        let delay = match self {
            Self::Away => AWAIT_ENDPOINT.longest(),
            // It is asked again when its socket is another.
            Self::Off => LOOK_AT_FILES + CALL_AGAIN.longest(),
            Self::Stale if rpc == Rpc::Token => OVERDUE.longest(),
            Self::Mood(Mood::Bad(_), _) | Self::Stale if rpc != Rpc::Token => Duration::ZERO,
            Self::Mood(Mood::Refuses(RpcStatusCode::INVALID_ARGUMENT), _) => CALL_RARELY,
            Self::Mood(Mood::Silent, _) => SILENT_STREAM + CALL_AGAIN.longest(),
            Self::Mood(..) | Self::Restarted | Self::Stale => CALL_AGAIN.longest(),
        };
        delay + FIRST_SET + GRACE
    }
}

/// A number below `end`.
pub(super) fn below(end: u64) -> u64 {
    chance() % end
}

/// Anything between, each order of magnitude as often as another.
pub(super) fn between(least: Duration, most: Duration) -> Duration {
    let part = (chance() >> 11) as f64 / (1u64 << 53) as f64;
    Duration::from_millis((least.as_secs_f64() * 1000.0 * most.div_duration_f64(least).powf(part)) as u64)
}
