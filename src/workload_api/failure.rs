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
    Unreachable { endpoint: Endpoint, cause: Errno, hint: &'static str },
    /// The call ended with a status other than OK: the agent's, or gRPC's for a broken connection.
    Refused { endpoint: Endpoint, code: RpcStatusCode, message: String },
    /// The agent closed the stream without a complaint.
    Ended { endpoint: Endpoint },
    /// gRPC itself failed.
    Grpc { endpoint: Endpoint, cause: String },
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
    /// No connection; looks at what is there instead, for the hint.
    pub fn unreachable(endpoint: &Endpoint, cause: Errno) -> Self {
        Self::Unreachable { endpoint: endpoint.clone(), cause, hint: unreachable_hint(endpoint, cause) }
    }

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
            Self::Unreachable { endpoint, cause, hint } => {
                write!(f, "cannot connect to {endpoint}: {}{hint}", cause.desc())
            }
            Self::Refused { endpoint, code, message } => write!(
                f,
                "the Workload API at {endpoint} answered {} {message:?}{}",
                status_name(*code),
                refusal_hint(*code, message)
            ),
            Self::Ended { endpoint } => write!(f, "the Workload API at {endpoint} closed the stream"),
            Self::Grpc { endpoint, cause } => write!(f, "gRPC failed at {endpoint}: {cause}"),
        }
    }
}

/// What to look at, as an addition to the message.
fn unreachable_hint(endpoint: &Endpoint, cause: Errno) -> &'static str {
    let Endpoint::Unix(path) = endpoint else {
        return match cause {
            Errno::ECONNREFUSED | Errno::ETIMEDOUT => " (is the agent running, and is this its address?)",
            _ => "",
        };
    };
    let file_type = std::fs::metadata(path).map(|metadata| metadata.file_type());
    match (cause, file_type) {
        (Errno::ENOENT, _) => " (is the agent running, and is its socket's directory mounted here?)",
        (Errno::EACCES, _) => {
            " (this process's user needs write permission on the socket and search permission on its directories)"
        }
        (Errno::EAGAIN, _) => " (the agent accepts no connections: it is overloaded or stopped)",
        (_, Ok(file_type)) if file_type.is_dir() => " (this is a directory, not a socket)",
        (_, Ok(file_type)) if file_type.is_file() => " (this is a file, not a socket)",
        (Errno::ECONNREFUSED, _) => " (the socket is there, but no agent listens on it)",
        _ => "",
    }
}

/// The same, for an answer.
fn refusal_hint(code: RpcStatusCode, message: &str) -> &'static str {
    match code {
        RpcStatusCode::PERMISSION_DENIED => {
            " (no registration entry for this process has reached the agent: do the entry's selectors match this pod?)"
        }
        RpcStatusCode::UNAVAILABLE => {
            " (the agent is starting, stopping or overloaded, or what listens there is no Workload API)"
        }
        RpcStatusCode::INVALID_ARGUMENT => {
            " (the agent did not accept the call itself; does a proxy between drop the metadata workload.spiffe.io?)"
        }
        RpcStatusCode::DEADLINE_EXCEEDED => " (no answer in time: can the agent reach its server?)",
        RpcStatusCode::UNIMPLEMENTED => {
            " (what listens there does not offer this call; is this the agent's workload socket?)"
        }
        RpcStatusCode::RESOURCE_EXHAUSTED if message.contains("larger than max") => MAX_MESSAGE_HINT,
        _ => "",
    }
}

const MAX_MESSAGE_HINT: &str = " (a response may have at most 64 MiB)";
const _: () = assert!(MAX_MESSAGE_MIB == 64, "the hint above names the limit");

/// As the standards write it.
fn status_name(code: RpcStatusCode) -> &'static str {
    match code {
        RpcStatusCode::OK => "OK",
        RpcStatusCode::CANCELLED => "Cancelled",
        RpcStatusCode::INVALID_ARGUMENT => "InvalidArgument",
        RpcStatusCode::DEADLINE_EXCEEDED => "DeadlineExceeded",
        RpcStatusCode::NOT_FOUND => "NotFound",
        RpcStatusCode::ALREADY_EXISTS => "AlreadyExists",
        RpcStatusCode::PERMISSION_DENIED => "PermissionDenied",
        RpcStatusCode::RESOURCE_EXHAUSTED => "ResourceExhausted",
        RpcStatusCode::FAILED_PRECONDITION => "FailedPrecondition",
        RpcStatusCode::ABORTED => "Aborted",
        RpcStatusCode::OUT_OF_RANGE => "OutOfRange",
        RpcStatusCode::UNIMPLEMENTED => "Unimplemented",
        RpcStatusCode::INTERNAL => "Internal",
        RpcStatusCode::UNAVAILABLE => "Unavailable",
        RpcStatusCode::DATA_LOSS => "DataLoss",
        RpcStatusCode::UNAUTHENTICATED => "Unauthenticated",
        _ => "Unknown",
    }
}
