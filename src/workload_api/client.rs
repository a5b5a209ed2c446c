//! Calls the Workload API: the method, its metadata, the stream it returns.

use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client as GrpcClient, ClientSStreamReceiver, EnvBuilder,
    Environment, Error as GrpcError, Marshaller, MetadataBuilder, Method, MethodType,
};
use zeroize::Zeroizing;

use super::connect::{self, ConnectError};
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::proto::workload::{X509SVIDRequest, X509SVIDResponse};
use crate::identity::offered::{OfferedX509Context, OfferedX509Svid};
use crate::wait::{Interrupt, Waiter};

/// The largest response that is read.
pub const MAX_MESSAGE_MIB: i32 = 64;

/// The header that every call must carry (SPIFFE Workload Endpoint standard, section 3).
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// The RPC that streams X.509-SVIDs (SPIFFE Workload API standard, section 5.2.1).
const FETCH_X509_SVID: Method<X509SVIDRequest, X509SVIDResponse> = Method {
    ty: MethodType::ServerStreaming,
    name: "/SpiffeWorkloadAPI/FetchX509SVID",
    req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
    resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
};

/// A caller of one endpoint.
pub struct Client {
    endpoint: Endpoint,
    environment: Arc<Environment>,
}

/// Why a call was not made.
#[derive(Debug)]
pub enum CallError {
    /// There is no connection, or gRPC could not start.
    Failed(Failure),
    /// The wait for the connection was interrupted.
    Interrupted(Interrupt),
}

impl Client {
    /// Starts gRPC, and connects to nothing yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, environment: Arc::new(EnvBuilder::new().cq_count(1).build()) }
    }

    /// Connects anew and calls `FetchX509SVID`.
    pub fn fetch_x509_svid(&self, waiter: &Waiter, deadline: Instant) -> Result<X509SvidStream, CallError> {
        let channel = self.connect(waiter, deadline)?;
        let not_called = |error: GrpcError| {
            CallError::Failed(Failure::Grpc { endpoint: self.endpoint.clone(), cause: error.to_string() })
        };
        let mut metadata = MetadataBuilder::with_capacity(1);
        metadata.add_str(SECURITY_HEADER.0, SECURITY_HEADER.1).map_err(not_called)?;
        let options = CallOption::default().headers(metadata.build());
        let receiver = GrpcClient::new(channel.clone())
            .server_streaming(&FETCH_X509_SVID, &X509SVIDRequest::new(), options)
            .map_err(not_called)?;
        Ok(X509SvidStream { receiver, end: None, endpoint: self.endpoint.clone(), _channel: channel })
    }

    fn connect(&self, waiter: &Waiter, deadline: Instant) -> Result<Channel, CallError> {
        let socket = connect::open(&self.endpoint, waiter, deadline).map_err(|error| match error {
            ConnectError::Interrupted(interrupt) => CallError::Interrupted(interrupt),
            ConnectError::Failed(cause) => CallError::Failed(Failure::unreachable(&self.endpoint, cause)),
        })?;
        let builder = ChannelBuilder::new(self.environment.clone())
            .default_authority("localhost")
            .max_receive_message_len(MAX_MESSAGE_MIB << 20)
            // No pings of any kind: an agent may answer them with GOAWAY too_many_pings.
            .http2_bdp_probe(false);
        #[allow(unsafe_code, reason = "grpcio has no safe way to hand over a socket")]
        // SAFETY: the descriptor is a connected stream socket, and `into_raw_fd` hands over its
        // ownership: nothing else can use or close it.
        Ok(unsafe { builder.connect_from_fd(&self.endpoint.to_string(), socket.into_raw_fd()) })
    }
}

/// What arrives on a stream.
pub enum Received {
    /// A message, decoded but not yet checked.
    Message(OfferedX509Context),
    /// A message that is no `X509SVIDResponse`; the stream goes on.
    Undecodable(String),
    /// The end of the stream.
    End(Failure),
}

/// An open `FetchX509SVID` call on a connection of its own. Dropping it cancels the call and
/// closes the connection.
pub struct X509SvidStream {
    receiver: ClientSStreamReceiver<X509SVIDResponse>,
    /// How the stream ended, while messages that came before the end are still to be handed out.
    end: Option<Failure>,
    endpoint: Endpoint,
    _channel: Channel,
}

impl X509SvidStream {
    /// Waits for what comes next.
    pub fn next(&mut self, waiter: &Waiter, deadline: Instant) -> Result<Received, Interrupt> {
        loop {
            let endpoint = self.endpoint.clone();
            match waiter.for_future(&mut self.receiver.next(), deadline)? {
                Some(Ok(response)) => return Ok(Received::Message(offered(response))),
                Some(Err(GrpcError::Codec(cause))) => return Ok(Received::Undecodable(cause.to_string())),
                // grpcio tells of the end before it hands out the last messages.
                Some(Err(GrpcError::RpcFailure(status))) => {
                    let (code, message) = (status.code(), status.message().to_owned());
                    self.end = Some(Failure::Refused { endpoint, code, message });
                }
                Some(Err(error)) => {
                    return Ok(Received::End(Failure::Grpc { endpoint, cause: error.to_string() }));
                }
                None => return Ok(Received::End(self.end.take().unwrap_or(Failure::Ended { endpoint }))),
            }
        }
    }
}

/// Takes a message apart; the keys move, they are not copied.
fn offered(response: X509SVIDResponse) -> OfferedX509Context {
    OfferedX509Context {
        svids: response
            .svids
            .into_iter()
            .map(|svid| OfferedX509Svid {
                spiffe_id: svid.spiffe_id,
                chain: svid.x509_svid,
                key: Zeroizing::new(svid.x509_svid_key),
                bundle: svid.bundle,
            })
            .collect(),
        federated_bundles: response.federated_bundles.into_iter().collect(),
    }
}
