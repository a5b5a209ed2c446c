//! What can go wrong between this program and an agent, in words that name the next step.

use std::fmt;

use grpcio::RpcStatusCode;
use nix::errno::Errno;

use super::client::MAX_MESSAGE_MIB;
use super::endpoint::Endpoint;

/// Why a call brought nothing, or brings nothing more.
#[allow(missing_docs, reason = "the fields are what their names say")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Unreachable { endpoint: Endpoint, cause: Errno },
    /// The call ended with a status other than OK: the agent's, or gRPC's for a broken connection.
    Refused { endpoint: Endpoint, code: RpcStatusCode, message: String },
    /// The agent closed the stream without a complaint.
    Ended { endpoint: Endpoint },
    /// gRPC itself could not start the call.
    NotCalled { endpoint: Endpoint, cause: String },
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing is there to talk to: a local connection costs nothing, so try again soon.
    AwaitEndpoint,
    /// Somebody answers, with no: back off.
    BackOff,
    /// The standard says not to retry (SPIFFE Workload Endpoint, appendix A).
    GiveUp,
}

impl Failure {
    /// What the standard and common sense say to do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } => Remedy::AwaitEndpoint,
            Self::Refused { code, .. }
                if matches!(*code, RpcStatusCode::INVALID_ARGUMENT | RpcStatusCode::UNIMPLEMENTED) =>
            {
                Remedy::GiveUp
            }
            _ => Remedy::BackOff,
        }
    }

    /// Whether the agent says that this process has no identity.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == RpcStatusCode::PERMISSION_DENIED)
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { endpoint, cause } => {
                write!(
                    f,
                    "cannot connect to {endpoint}: {} ({})",
                    cause.desc(),
                    unreachable_hint(endpoint, *cause)
                )
            }
            Self::Refused { endpoint, code, message } => {
                write!(f, "the Workload API at {endpoint} answered {}", status_name(*code))?;
                if !message.is_empty() {
                    write!(f, " \"{message}\"")?;
                }
                match refusal_hint(*code, message) {
                    "" => Ok(()),
                    hint => write!(f, " ({hint})"),
                }
            }
            Self::Ended { endpoint } => write!(f, "the Workload API at {endpoint} closed the stream"),
            Self::NotCalled { endpoint, cause } => write!(f, "gRPC could not call {endpoint}: {cause}"),
        }
    }
}

fn unreachable_hint(endpoint: &Endpoint, cause: Errno) -> &'static str {
    let Endpoint::Unix(path) = endpoint else {
        return "is the agent running, and is this its address?";
    };
    let metadata = std::fs::symlink_metadata(path);
    let is = |kind: fn(&std::fs::FileType) -> bool| metadata.as_ref().is_ok_and(|m| kind(&m.file_type()));
    match cause {
        Errno::ENOENT => "is the agent running, and is its socket's directory mounted here?",
        Errno::EACCES => {
            "this process's user needs write permission on the socket and search permission on its directories"
        }
        Errno::EAGAIN => "the agent accepts no connections: it is overloaded or stopped",
        _ if is(std::fs::FileType::is_dir) => "this is a directory, not a socket",
        _ if is(std::fs::FileType::is_file) => "this is a file, not a socket",
        Errno::ECONNREFUSED => "the socket is there, but no agent listens on it",
        _ => "is this the agent's socket?",
    }
}

fn refusal_hint(code: RpcStatusCode, message: &str) -> &'static str {
    match code {
        RpcStatusCode::PERMISSION_DENIED => {
            "no registration entry for this process has reached the agent: do the entry's selectors match this pod?"
        }
        RpcStatusCode::UNAVAILABLE => {
            "the agent is starting, stopping or overloaded, or what listens there is no Workload API"
        }
        RpcStatusCode::INVALID_ARGUMENT => {
            "the agent did not accept the call itself; if a proxy stands between, does it pass the metadata workload.spiffe.io on?"
        }
        RpcStatusCode::UNIMPLEMENTED => {
            "what listens there does not serve X.509-SVIDs; is this the agent's workload socket?"
        }
        RpcStatusCode::RESOURCE_EXHAUSTED if message.contains("larger than max") => MAX_MESSAGE_HINT,
        _ => "",
    }
}

const MAX_MESSAGE_HINT: &str = "a response may have at most 64 MiB";
const _: () = assert!(MAX_MESSAGE_MIB == 64, "the hint above names the limit");

fn status_name(code: RpcStatusCode) -> String {
    match code {
        RpcStatusCode::CANCELLED => "Cancelled".into(),
        RpcStatusCode::UNKNOWN => "Unknown".into(),
        RpcStatusCode::INVALID_ARGUMENT => "InvalidArgument".into(),
        RpcStatusCode::DEADLINE_EXCEEDED => "DeadlineExceeded".into(),
        RpcStatusCode::NOT_FOUND => "NotFound".into(),
        RpcStatusCode::PERMISSION_DENIED => "PermissionDenied".into(),
        RpcStatusCode::RESOURCE_EXHAUSTED => "ResourceExhausted".into(),
        RpcStatusCode::UNIMPLEMENTED => "Unimplemented".into(),
        RpcStatusCode::INTERNAL => "Internal".into(),
        RpcStatusCode::UNAVAILABLE => "Unavailable".into(),
        RpcStatusCode::UNAUTHENTICATED => "Unauthenticated".into(),
        other => format!("status {}", i32::from(other)),
    }
}
