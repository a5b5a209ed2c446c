//! Failures of calls, in sentences that name the next step.

use std::fmt;

use grpcio::RpcStatusCode;
use nix::errno::Errno;

use super::endpoint::Endpoint;
use super::limits::MAX_MESSAGE_MIB;
use crate::time::timing::SINGLE_RESPONSE;

/// Why a call has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// No connection.
    Unreachable { endpoint: Endpoint, cause: Errno, hint: &'static str },
    /// The call ended with a status other than OK: the agent's, or gRPC's for a broken connection.
    Refused { endpoint: Endpoint, code: RpcStatusCode, message: String },
    /// The agent closed the stream without an error.
    Ended { endpoint: Endpoint },
    /// The agent did not answer a call with a single response within [`SINGLE_RESPONSE`].
    NoAnswer { endpoint: Endpoint },
    /// gRPC itself failed.
    Grpc { endpoint: Endpoint, cause: String },
}

/// When to call again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryRule {
    /// No agent listens: a local connection costs nothing, so try again soon.
    AwaitEndpoint,
    /// The agent answers with an error: back off.
    BackOff,
    /// The standard says not to retry (SPIFFE Workload Endpoint standard, appendix A).
    Rarely,
}

impl CallError {
    /// No connection. Looks at the path, for a hint.
    pub(crate) fn unreachable(endpoint: &Endpoint, cause: Errno) -> Self {
        Self::Unreachable { endpoint: endpoint.clone(), cause, hint: unreachable_hint(endpoint, cause) }
    }

    /// When to call again.
    pub(crate) fn retry_rule(&self) -> RetryRule {
        match self {
            Self::Unreachable { .. } => RetryRule::AwaitEndpoint,
            Self::Refused { code, .. }
                if matches!(*code, RpcStatusCode::INVALID_ARGUMENT | RpcStatusCode::UNIMPLEMENTED) =>
            {
                RetryRule::Rarely
            }
            _ => RetryRule::BackOff,
        }
    }

    /// The status's name, for the metrics; `Unreachable` without a connection.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Unreachable",
            Self::Refused { code, .. } => status_name(*code),
            Self::Ended { .. } => "OK",
            Self::NoAnswer { .. } => "DeadlineExceeded",
            Self::Grpc { .. } => "Internal",
        }
    }

    /// Whether the agent does not have the RPC, or has it turned off.
    pub(crate) fn is_of_absent_rpc(&self) -> bool {
        let codes = [RpcStatusCode::UNIMPLEMENTED, RpcStatusCode::FAILED_PRECONDITION];
        matches!(self, Self::Refused { code, message, .. }
            if codes.contains(code) && !message.contains(COMPRESSED))
    }

    /// The message without its hint.
    pub(crate) fn without_hint(&self) -> String {
        match self {
            Self::Refused { endpoint, code, message } => {
                format!("the Workload API at {endpoint} answered {} {message:?}", status_name(*code))
            }
            _ => self.to_string(),
        }
    }

    /// Whether the agent says that this process has no identity.
    pub(crate) fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == RpcStatusCode::PERMISSION_DENIED)
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { endpoint, cause, hint } => {
                write!(f, "cannot connect to {endpoint}: {}{hint}", cause.desc())
            }
            Self::Refused { code, message, .. } => {
                write!(f, "{}{}", self.without_hint(), refusal_hint(*code, message))
            }
            Self::Ended { endpoint } => write!(f, "the Workload API at {endpoint} closed the stream"),
            Self::NoAnswer { endpoint } => write!(
                f,
                "the Workload API at {endpoint} did not answer within {SINGLE_RESPONSE:?} (can the agent reach its server?)"
            ),
            Self::Grpc { endpoint, cause } => write!(f, "gRPC failed at {endpoint}: {cause}"),
        }
    }
}

/// A hint for the message.
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

/// A hint for the message of a status.
fn refusal_hint(code: RpcStatusCode, message: &str) -> &'static str {
    match code {
        RpcStatusCode::PERMISSION_DENIED => {
            " (no registration entry for this process has reached the agent: do the entry's selectors match this pod?)"
        }
        RpcStatusCode::UNAVAILABLE => {
            " (the agent is starting, stopping or overloaded, or the listener is not a Workload API)"
        }
        RpcStatusCode::INVALID_ARGUMENT => {
            " (the agent refused the call itself; does a proxy in between drop the metadata workload.spiffe.io?)"
        }
        RpcStatusCode::DEADLINE_EXCEEDED => " (no answer in time: can the agent reach its server?)",
        RpcStatusCode::UNIMPLEMENTED if message.contains(COMPRESSED) => {
            " (the helper accepts no compression; does a proxy between compress?)"
        }
        RpcStatusCode::UNIMPLEMENTED => {
            " (the listener does not implement this call; is this the agent's workload socket?)"
        }
        RpcStatusCode::RESOURCE_EXHAUSTED if message.contains("larger than max") => MAX_MESSAGE_HINT,
        RpcStatusCode::INTERNAL if message.contains("http1.x server") => {
            " (an HTTP/1 server listens there: is this the agent's workload socket?)"
        }
        _ => "",
    }
}

/// C-core's words for a message that the client cannot unpack.
const COMPRESSED: &str = "Compression algorithm";
const MAX_MESSAGE_HINT: &str = " (a response may have at most 8 MiB)";
const _: () = assert!(MAX_MESSAGE_MIB == 8, "the hint above names the limit");

/// What calls of an agent that starts, stops, denies or hangs fail with, and those of something else.
pub(crate) const USUAL_FAILURES: [&str; 8] = [
    "Unreachable",
    "Unavailable",
    "PermissionDenied",
    "DeadlineExceeded",
    "InvalidArgument",
    "Unimplemented",
    "Internal",
    "Unknown",
];

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
