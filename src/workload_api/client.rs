//! Calls the Workload API: a connection, the metadata that every call carries, what comes back.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client as GrpcClient, EnvBuilder, Environment, Error as GrpcError,
    MetadataBuilder,
};

use super::endpoint::Endpoint;
use super::failure::Failure;
use super::procedure::{Messages, Procedure};

/// The largest response that is read.
pub const MAX_MESSAGE_MIB: i32 = 64;

/// How long a call with a single response may take: an agent whose server is away may never answer.
const SINGLE_RESPONSE: Duration = Duration::from_secs(10);

/// The header that every call must carry (SPIFFE Workload Endpoint standard, section 3).
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// Starts gRPC, for all clients and servers of the process: one thread that completes calls,
/// beside C-core's own.
pub fn start_grpc() -> Arc<Environment> {
    Arc::new(EnvBuilder::new().cq_count(1).build())
}

/// A caller of one endpoint.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    environment: Arc<Environment>,
}

impl Client {
    /// Connects to nothing yet.
    pub fn new(endpoint: Endpoint, environment: Arc<Environment>) -> Self {
        Self { endpoint, environment }
    }

    /// Whom it calls.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls a procedure on a connection of its own.
    pub fn call<P: Procedure>(&self, procedure: &P, socket: OwnedFd) -> Result<OpenCall<P>, Failure> {
        let channel = self.channel(socket);
        let not_called =
            |error: GrpcError| Failure::Grpc { endpoint: self.endpoint.clone(), cause: error.to_string() };
        let mut metadata = MetadataBuilder::with_capacity(1);
        metadata.add_str(SECURITY_HEADER.0, SECURITY_HEADER.1).map_err(not_called)?;
        let mut options = CallOption::default().headers(metadata.build());
        if !P::STREAMS {
            options = options.timeout(SINGLE_RESPONSE);
        }
        let messages = procedure.call(&GrpcClient::new(channel.clone()), options).map_err(not_called)?;
        Ok(OpenCall { messages, end: None, endpoint: self.endpoint.clone(), _channel: channel })
    }

    fn channel(&self, socket: OwnedFd) -> Channel {
        let builder = ChannelBuilder::new(self.environment.clone())
            .default_authority("localhost")
            .max_receive_message_len(MAX_MESSAGE_MIB << 20)
            // No pings of any kind: an agent may answer them with GOAWAY too_many_pings.
            .http2_bdp_probe(false);
        #[allow(unsafe_code, reason = "grpcio has no safe way to hand over a socket")]
        // SAFETY: the descriptor is a connected stream socket, and `into_raw_fd` hands over its
        // ownership: nothing else can use or close it.
        unsafe {
            builder.connect_from_fd(&self.endpoint.to_string(), socket.into_raw_fd())
        }
    }
}

/// What arrives on a call.
pub enum Received<Offered> {
    /// A response, decoded but not yet checked.
    Response(Offered),
    /// Bytes that are not the procedure's response; the call goes on.
    Undecodable(String),
    /// The end of the call.
    End(Failure),
}

/// An open call on a connection of its own. Dropping it cancels the call and closes the connection.
pub struct OpenCall<P: Procedure> {
    messages: Messages<P::Response>,
    /// How the call ended, while responses that came before the end are still to be handed out.
    end: Option<Failure>,
    endpoint: Endpoint,
    _channel: Channel,
}

impl<P: Procedure> OpenCall<P> {
    /// What comes next.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Received<P::Offered>> {
        loop {
            let endpoint = || self.endpoint.clone();
            return Poll::Ready(match ready!(self.messages.poll_next_unpin(context)) {
                Some(Ok(response)) => Received::Response(P::offered(response)),
                Some(Err(GrpcError::Codec(cause))) => Received::Undecodable(cause.to_string()),
                // grpcio tells of the end before it hands out the last messages.
                Some(Err(GrpcError::RpcFailure(status))) => {
                    let (code, message) = (status.code(), status.message().to_owned());
                    self.end = Some(Failure::Refused { endpoint: endpoint(), code, message });
                    continue;
                }
                Some(Err(error)) => {
                    Received::End(Failure::Grpc { endpoint: endpoint(), cause: error.to_string() })
                }
                None => Received::End(self.end.take().unwrap_or(Failure::Ended { endpoint: endpoint() })),
            });
        }
    }
}
