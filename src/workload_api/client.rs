//! Calls the Workload API: a connection, the metadata of every call, the messages of the response.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
#[cfg(test)]
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use grpcio::{
    CallOption, Channel, ChannelBuilder, Client as GrpcClient, EnvBuilder, Environment, Error as GrpcError,
    MetadataBuilder,
};
use log::LevelFilter;
use nix::sys::socket::{Shutdown, shutdown};
#[cfg(test)]
use protobuf::Message;

use super::call_error::CallError;
use super::core_clock;
#[cfg(test)]
use super::decode::decode;
use super::endpoint::Endpoint;
use super::limits::MAX_MESSAGE_MIB;
use super::rpc::{Messages, Rpc};
use crate::last_resort::{self, FAILURE};
use crate::logging;

/// The header that every call must carry (SPIFFE Workload Endpoint standard, section 3).
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// The set of gRPC's compression algorithms that has `identity` alone (`GRPC_COMPRESS_NONE`, bit 0).
const IDENTITY_ALONE: i32 = 1;

/// Starts gRPC: one thread that completes calls, beside C-core's own.
///
/// Where a thread cannot be started, the process ends with one line. What is started is never stopped:
/// its threads, if they lack memory, would wait for each other.
pub(crate) fn start_grpc() -> Arc<Environment> {
    core_clock::run_backwards();
    share_one_heap();
    // C-core has a line of its own for each thread that it cannot start.
    let level = log::max_level();
    log::set_max_level(LevelFilter::Off);
    // The builder panics if it cannot start its thread.
    let general = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log::set_max_level(level);
        // EPERM is never a limit's.
        let is_forbidden = panic.payload_as_str().is_some_and(|cause| cause.contains("PermissionDenied"));
        let cure = match is_forbidden {
            true => "the container's seccomp profile refuses clone3: update the container runtime",
            false => "check the limits on processes and address space: ulimit -u, ulimit -v, pids.max",
        };
        log::error!("cannot start gRPC's threads ({cure})");
        logging::finish();
        last_resort::leave(FAILURE);
    }));
    let environment = Arc::new(EnvBuilder::new().cq_count(1).build());
    std::panic::set_hook(general);
    log::set_max_level(level);
    std::mem::forget(environment.clone());
    environment
}

/// From now on, all threads share one heap. Each of gRPC's would have one of its own, which costs every sidecar
/// 30 KiB in all, and they hardly ever allocate at once.
fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "nix has no mallopt")]
    // SAFETY: it takes numbers alone, and is called before there is another thread.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// A caller of one endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    environment: Arc<Environment>,
    #[cfg(test)]
    simulated: Option<Rc<dyn SimulatedAgent>>,
}

impl Client {
    /// Connects to nothing yet.
    pub(crate) fn new(endpoint: Endpoint, environment: Arc<Environment>) -> Self {
        Self {
            endpoint,
            environment,
            #[cfg(test)]
            simulated: None,
        }
    }

    /// Connects to the endpoint, and has its calls answered by a simulation.
    #[cfg(test)]
    pub(crate) fn simulated(self, agent: Rc<dyn SimulatedAgent>) -> Self {
        Self { simulated: Some(agent), ..self }
    }

    /// The address that it calls.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls an RPC on a connection of its own.
    pub(crate) fn call<R: Rpc>(&self, rpc: &R, socket: OwnedFd) -> Result<OpenCall<R>, CallError> {
        let endpoint = self.endpoint.clone();
        let line = Line(socket.try_clone().ok());
        match self.begin(rpc, socket) {
            Ok((messages, channel)) => {
                Ok(OpenCall { _line: line, messages, end: None, endpoint, _channel: channel })
            }
            Err(error) => Err(CallError::Grpc { endpoint, cause: error.to_string() }),
        }
    }

    /// The responses to come, and the channel to keep until then; a simulation has none.
    fn begin<R: Rpc>(&self, rpc: &R, socket: OwnedFd) -> grpcio::Result<(Messages<R::Raw>, Option<Channel>)> {
        #[cfg(test)]
        if let Some(agent) = &self.simulated {
            let responses = agent.call(R::NAME, &rpc.request().write_to_bytes()?);
            return Ok((Box::new(responses.map(|bytes| decode(bytes?.as_slice()))), None));
        }
        let channel = self.channel(socket);
        let mut metadata = MetadataBuilder::with_capacity(1);
        metadata.add_str(SECURITY_HEADER.0, SECURITY_HEADER.1)?;
        let options = CallOption::default().headers(metadata.build());
        let messages = rpc.call(&GrpcClient::new(channel.clone()), options)?;
        Ok((messages, Some(channel)))
    }

    fn channel(&self, socket: OwnedFd) -> Channel {
        let builder = ChannelBuilder::new(self.environment.clone())
            .default_authority("localhost")
            .max_receive_message_len(MAX_MESSAGE_MIB << 20)
            // A compressed message is counted before it is unpacked: 1 MiB can become 1 GiB. The first
            // tells the agent to send none, and ends a call that uses it; without the second, C-core
            // would unpack what comes all the same.
            .raw_cfg_int(c"grpc.compression_enabled_algorithms_bitset".to_owned(), IDENTITY_ALONE)
            .raw_cfg_int(c"grpc.per_message_decompression".to_owned(), 0)
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

/// An agent in the test's own process.
#[cfg(test)]
pub(crate) trait SimulatedAgent {
    /// What an RPC with this request brings: the bytes of each response, and how the call ends.
    fn call(&self, rpc: &'static str, request: &[u8]) -> Messages<Vec<u8>>;
}

/// What arrives on a call.
pub(crate) enum Received<Raw> {
    /// A response, decoded but not yet checked.
    Response(Raw),
    /// Bytes that are not the RPC's response; the call goes on.
    Undecodable(String),
    /// The end of the call.
    End(CallError),
}

/// An open call on a connection of its own. Dropping it cancels the call and closes the connection.
pub(crate) struct OpenCall<R: Rpc> {
    /// Cut first: see [`Line`].
    _line: Line,
    messages: Messages<R::Raw>,
    /// How the call ended, while responses that came before the end are still to be handed out.
    end: Option<CallError>,
    endpoint: Endpoint,
    /// `None` in a simulation.
    _channel: Option<Channel>,
}

/// A call's connection; nothing if there was no descriptor left for it. Dropping it cuts the connection: C-core's
/// own close waits for its last write, for as long as a peer that never reads keeps its end open.
struct Line(Option<OwnedFd>);

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // The peer may be gone.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

impl<R: Rpc> OpenCall<R> {
    /// What comes next.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Received<R::Raw>> {
        loop {
            let endpoint = || self.endpoint.clone();
            return Poll::Ready(match ready!(self.messages.poll_next_unpin(context)) {
                Some(Ok(raw)) => Received::Response(raw),
                Some(Err(GrpcError::Codec(cause))) => Received::Undecodable(cause.to_string()),
                // grpcio reports the end before the last messages.
                Some(Err(GrpcError::RpcFailure(status))) => {
                    let (code, message) = (status.code(), status.message().to_owned());
                    self.end = Some(CallError::Refused { endpoint: endpoint(), code, message });
                    continue;
                }
                Some(Err(error)) => {
                    Received::End(CallError::Grpc { endpoint: endpoint(), cause: error.to_string() })
                }
                None => Received::End(self.end.take().unwrap_or(CallError::Ended { endpoint: endpoint() })),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::workload_api::rpc::FetchX509Svid;

    /// Empty settings, and pings until there is no room for them. They are answered, and never read.
    fn ping_without_reading(mut stream: &UnixStream) -> ErrorKind {
        let [settings, ping] = [(0, 4), (8, 6)].map(|(length, kind)| {
            let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
            frame.resize(9 + usize::from(length), 0);
            frame
        });
        let mut sent = stream.write_all(&settings);
        while sent.is_ok() {
            sent = stream.write_all(&ping);
        }
        sent.unwrap_err().kind()
    }

    #[test]
    fn a_call_that_is_dropped_closes_its_connection_though_the_peer_never_reads() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (tell, told) = channel();
        let peer = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            assert_eq!(ping_without_reading(&stream), ErrorKind::WouldBlock);
            tell.send(()).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
            ping_without_reading(&stream)
        });
        let client = Client::new(Endpoint::Unix(socket.clone()), start_grpc());
        let connection = UnixStream::connect(&socket).unwrap();
        connection.set_nonblocking(true).unwrap();
        let call = client.call(&FetchX509Svid, connection.into()).ok().unwrap();
        told.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(call);
        assert!([ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&peer.join().unwrap()));
    }
}
