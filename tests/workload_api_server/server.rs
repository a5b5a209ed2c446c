//! A Workload API server that says what it is told to.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use futures_util::SinkExt;
use grpcio::{
    ChannelBuilder, EnvBuilder, Environment, Marshaller, Method, MethodType, RpcContext, RpcStatus,
    RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServerStreamingSink, ServiceBuilder, WriteFlags,
};
use pod_svid_helper::workload_api::proto::workload::{X509SVIDRequest, X509SVIDResponse};
use protobuf::Message;

/// What the server does with a call, and with the open calls when it changes.
#[derive(Clone)]
pub enum Reply {
    /// Sends a message and keeps the stream open. Bytes, for they need not be a good message.
    Send(Vec<u8>),
    /// Ends the stream with a status.
    Refuse(RpcStatusCode, String),
    /// Ends the stream with OK.
    Close,
    /// Says nothing.
    Silence,
}

impl Reply {
    pub fn offer(response: &X509SVIDResponse) -> Self {
        Self::Send(response.write_to_bytes().expect("a message"))
    }

    pub fn refuse(code: RpcStatusCode) -> Self {
        Self::Refuse(code, "told to".to_owned())
    }
}

/// A running server. Dropping it ends all streams and removes its socket, as an agent that is
/// told to stop does.
pub struct WorkloadApiServer {
    shared: Arc<Shared>,
    grpc: Server,
    port: u16,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// All replies so far. A new stream begins with the last; an open one says each, in order.
    replies: Vec<Reply>,
    /// What the coming calls get before `reply`; they end with it.
    next: VecDeque<Reply>,
    calls: u64,
    stopped: bool,
}

impl WorkloadApiServer {
    /// Serves on a Unix socket, in place of any socket that is there.
    pub fn on_socket(path: &Path, reply: Reply) -> Self {
        let server = Self::start(&format!("unix:{}", path.display()), reply);
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, everybody).expect("the socket's permissions");
        server
    }

    /// Serves on a free port of the loopback interface.
    pub fn on_loopback(reply: Reply) -> Self {
        Self::start("127.0.0.1:0", reply)
    }

    fn start(address: &str, reply: Reply) -> Self {
        let state = State { replies: vec![reply], next: VecDeque::new(), calls: 0, stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let method = Method {
            ty: MethodType::ServerStreaming,
            name: "/SpiffeWorkloadAPI/FetchX509SVID",
            req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
            resp_mar: Marshaller {
                ser: |bytes: &Vec<u8>, slice| {
                    *slice = bytes.clone().into();
                    Ok(())
                },
                de: |_| Ok(Vec::new()),
            },
        };
        let handler = {
            let shared = shared.clone();
            move |context: RpcContext<'_>, _: X509SVIDRequest, sink: ServerStreamingSink<Vec<u8>>| {
                let shared = shared.clone();
                let trusted = has_security_header(&context);
                std::thread::spawn(move || shared.serve(trusted, sink));
            }
        };
        let service = ServiceBuilder::new().add_server_streaming_handler(&method, handler).build();
        let unlimited = ChannelBuilder::new(environment()).max_send_message_len(-1).build_args();
        let mut grpc = ServerBuilder::new(environment())
            .channel_args(unlimited)
            .register_service(service)
            .build()
            .expect("a server");
        let port =
            grpc.add_listening_port(address, ServerCredentials::insecure()).expect("an address to listen on");
        grpc.start();
        Self { shared, grpc, port }
    }

    /// The port, when it serves on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Replies with this from now on, on open streams too.
    pub fn reply(&self, reply: Reply) {
        self.shared.lock().replies.push(reply);
        self.shared.changed.notify_all();
    }

    /// Sends this on open streams and on new ones.
    pub fn offer(&self, response: &X509SVIDResponse) {
        self.reply(Reply::offer(response));
    }

    /// Replies with this to the next call, and then as before.
    pub fn reply_once(&self, reply: Reply) {
        self.shared.lock().next.push_back(reply);
    }

    /// How many calls there have been.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// Waits until there have been so many calls.
    pub fn wait_for_calls(&self, calls: u64, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        while state.calls < calls {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {patience:?} for {calls} calls, and there were {}", state.calls);
            state = self.shared.changed.wait_timeout(state, left).expect("no panic in a stream").0;
        }
    }
}

impl Drop for WorkloadApiServer {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        let stopped = self.grpc.shutdown();
        self.grpc.cancel_all_calls();
        block_on(stopped).expect("a server that stops");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic in a stream")
    }

    /// One call, on a thread of its own, until it ends.
    fn serve(&self, trusted: bool, mut sink: ServerStreamingSink<Vec<u8>>) {
        let (mut once, mut said) = {
            let mut state = self.lock();
            state.calls += 1;
            self.changed.notify_all();
            (state.next.pop_front(), state.replies.len() - 1)
        };
        if !trusted {
            let status = RpcStatusCode::INVALID_ARGUMENT;
            let _ = block_on(
                sink.fail(RpcStatus::with_message(status, "security header missing from request".into())),
            );
            return;
        }
        loop {
            let reply = match once.take() {
                Some(reply) => reply,
                None => match self.wait_for_news(&mut said) {
                    Some(reply) => reply,
                    None => return,
                },
            };
            match reply {
                Reply::Silence => {}
                Reply::Send(bytes) => {
                    if block_on(sink.send((bytes, WriteFlags::default()))).is_err() {
                        return;
                    }
                }
                Reply::Close => {
                    let _ = block_on(sink.close());
                    return;
                }
                Reply::Refuse(code, message) => {
                    let _ = block_on(sink.fail(RpcStatus::with_message(code, message)));
                    return;
                }
            }
        }
    }

    /// Waits for a reply that this stream has not said; `None` when the server stops.
    fn wait_for_news(&self, said: &mut usize) -> Option<Reply> {
        let mut state = self.lock();
        while state.replies.len() == *said && !state.stopped {
            state = self.changed.wait(state).expect("no panic in a stream");
        }
        let news = state.replies.get(*said).filter(|_| !state.stopped).cloned();
        *said += 1;
        news
    }
}

fn has_security_header(context: &RpcContext<'_>) -> bool {
    context.request_headers().iter().any(|(name, value)| name == "workload.spiffe.io" && value == b"true")
}

/// gRPC's threads, shared by all servers of the process.
fn environment() -> Arc<Environment> {
    static ENVIRONMENT: OnceLock<Arc<Environment>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(EnvBuilder::new().cq_count(1).build())).clone()
}
