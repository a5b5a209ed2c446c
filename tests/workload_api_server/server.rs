//! A Workload API server that says what it is told to.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use futures_util::{Sink, SinkExt};
use grpcio::{
    ChannelBuilder, CompressionAlgorithms, EnvBuilder, Environment, Marshaller, Method, MethodType,
    RpcContext, RpcStatus, RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServerStreamingSink,
    ServiceBuilder, UnarySink, WriteFlags,
};
use pod_svid_helper::for_tests::workload::{JWTSVIDRequest, X509SVIDResponse};
use protobuf::Message;
use protobuf::well_known_types::empty::Empty;

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
    pub fn offer(response: &impl Message) -> Self {
        Self::Send(response.write_to_bytes().expect("a message"))
    }

    pub fn refuse(code: RpcStatusCode) -> Self {
        Self::Refuse(code, "told to".to_owned())
    }
}

/// Answers a call for a JWT-SVID.
pub type Issue = dyn Fn(&JWTSVIDRequest) -> Reply + Send + Sync;

/// A running server. Dropping it ends all streams and removes its socket, as an agent that is
/// told to stop does.
///
/// At first, it knows nothing of JWT and WIT: those calls are Unimplemented.
pub struct WorkloadApiServer {
    x509: Arc<Stream>,
    jwt_bundles: Arc<Stream>,
    wit_svids: Arc<Stream>,
    wit_bundles: Arc<Stream>,
    jwt_svids: Arc<Mutex<JwtSvids>>,
    grpc: Server,
    port: u16,
}

struct JwtSvids {
    issue: Arc<Issue>,
    /// When each call has come.
    calls: Vec<Instant>,
}

/// What is said on one procedure's streams.
struct Stream {
    state: Mutex<State>,
    /// There was one more call, or a stream says one more reply.
    changed: Condvar,
}

struct State {
    /// All replies so far. A new stream begins with the last; an open one says each, in order.
    replies: Vec<Reply>,
    /// What the coming calls get before `reply`; they end with it.
    next: VecDeque<Reply>,
    /// When each call has come.
    calls: Vec<Instant>,
    /// How many replies a stream has begun to say.
    said: usize,
    stopped: bool,
    /// The open streams that wait for a reply.
    waiting: Vec<Waker>,
}

impl State {
    /// Takes a change to the streams that are open.
    fn wake_streams(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl WorkloadApiServer {
    /// Serves on a Unix socket, in place of any socket that is there.
    pub fn on_socket(path: &Path, reply: Reply) -> Self {
        Self::on_socket_after(path, reply, |_| ())
    }

    /// The same, and sets it up before it answers the first call.
    pub fn on_socket_after(path: &Path, reply: Reply, set_up: impl FnOnce(&Self)) -> Self {
        Self::on_socket_with(path, reply, CompressionAlgorithms::GRPC_COMPRESS_NONE, set_up)
    }

    /// Serves on a Unix socket, and compresses its messages, whether the client accepts that or not.
    pub fn compressing(path: &Path, reply: Reply) -> Self {
        Self::on_socket_with(path, reply, CompressionAlgorithms::GRPC_COMPRESS_GZIP, |_| ())
    }

    fn on_socket_with(
        path: &Path,
        reply: Reply,
        compression: CompressionAlgorithms,
        set_up: impl FnOnce(&Self),
    ) -> Self {
        let server = Self::start(&format!("unix:{}", path.display()), reply, compression, set_up);
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, everybody).expect("the socket's permissions");
        server
    }

    /// Serves on a free port of the loopback interface.
    pub fn on_loopback(reply: Reply) -> Self {
        Self::on_loopback_after(reply, |_| ())
    }

    /// The same, and sets it up before it answers the first call.
    pub fn on_loopback_after(reply: Reply, set_up: impl FnOnce(&Self)) -> Self {
        Self::start("127.0.0.1:0", reply, CompressionAlgorithms::GRPC_COMPRESS_NONE, set_up)
    }

    fn start(
        address: &str,
        reply: Reply,
        compression: CompressionAlgorithms,
        set_up: impl FnOnce(&Self),
    ) -> Self {
        let x509 = Arc::new(Stream::new(reply));
        let [jwt_bundles, wit_svids, wit_bundles] =
            [(); 3].map(|()| Arc::new(Stream::new(Reply::refuse(RpcStatusCode::UNIMPLEMENTED))));
        let issue: Arc<Issue> = Arc::new(|_| Reply::refuse(RpcStatusCode::UNIMPLEMENTED));
        let jwt_svids = Arc::new(Mutex::new(JwtSvids { issue, calls: Vec::new() }));
        let issuer = {
            let jwt_svids = jwt_svids.clone();
            move |context: RpcContext<'_>, request: JWTSVIDRequest, sink: UnarySink<Vec<u8>>| {
                let issue = {
                    let mut jwt_svids = jwt_svids.lock().expect("no panic in a call");
                    jwt_svids.calls.push(Instant::now());
                    jwt_svids.issue.clone()
                };
                let is_trusted = has_security_header(&context);
                // It may take its time.
                std::thread::spawn(move || {
                    answer(if is_trusted { issue(&request) } else { untrusted() }, sink)
                });
            }
        };
        let streams = [
            ("/SpiffeWorkloadAPI/FetchX509SVID", &x509),
            ("/SpiffeWorkloadAPI/FetchJWTBundles", &jwt_bundles),
            ("/SpiffeWorkloadAPI/FetchWITSVID", &wit_svids),
            ("/SpiffeWorkloadAPI/FetchWITBundles", &wit_bundles),
        ];
        let service = streams
            .into_iter()
            .fold(ServiceBuilder::new(), |service, (name, stream)| {
                let method = method(MethodType::ServerStreaming, name);
                service.add_server_streaming_handler(&method, stream.clone().handler())
            })
            .add_unary_handler(&method(MethodType::Unary, "/SpiffeWorkloadAPI/FetchJWTSVID"), issuer)
            .build();
        let arguments = ChannelBuilder::new(environment())
            .max_send_message_len(-1)
            .default_compression_algorithm(compression)
            .build_args();
        let mut grpc = ServerBuilder::new(environment())
            .channel_args(arguments)
            .register_service(service)
            .build()
            .expect("a server");
        let port =
            grpc.add_listening_port(address, ServerCredentials::insecure()).expect("an address to listen on");
        let mut server = Self { x509, jwt_bundles, wit_svids, wit_bundles, jwt_svids, grpc, port };
        set_up(&server);
        server.grpc.start();
        server
    }

    /// The port, when it serves on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Replies with this from now on, on open streams too.
    pub fn reply(&self, reply: Reply) {
        self.x509.reply(reply);
    }

    /// Sends this on open streams and on new ones.
    pub fn offer(&self, response: &X509SVIDResponse) {
        self.reply(Reply::offer(response));
    }

    /// Replies with this to the next call, and then as before.
    pub fn reply_once(&self, reply: Reply) {
        self.x509.lock().next.push_back(reply);
    }

    /// How many calls for X.509-SVIDs there have been.
    pub fn calls(&self) -> u64 {
        self.called_at().len() as u64
    }

    /// When each of them has come.
    pub fn called_at(&self) -> Vec<Instant> {
        self.x509.lock().calls.clone()
    }

    /// Waits until there have been so many calls for X.509-SVIDs.
    pub fn wait_for_calls(&self, calls: u64, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.x509.lock();
        while (state.calls.len() as u64) < calls {
            let left = deadline.saturating_duration_since(Instant::now());
            let so_far = state.calls.len();
            assert!(!left.is_zero(), "waited {patience:?} for {calls} calls, and there were {so_far}");
            state = self.x509.changed.wait_timeout(state, left).expect("no panic in a stream").0;
        }
    }

    /// Waits until a stream of X.509-SVIDs says the last reply.
    pub fn wait_for_last_reply(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.x509.lock();
        while state.said < state.replies.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {patience:?}, and {} replies were said", state.said);
            state = self.x509.changed.wait_timeout(state, left).expect("no panic in a stream").0;
        }
    }

    /// Answers calls for JWT-SVIDs like this from now on.
    pub fn issue_jwt(&self, issue: impl Fn(&JWTSVIDRequest) -> Reply + Send + Sync + 'static) {
        self.jwt_svids.lock().expect("no panic in a call").issue = Arc::new(issue);
    }

    /// How many calls for JWT-SVIDs there have been.
    pub fn jwt_calls(&self) -> u64 {
        self.jwt_called_at().len() as u64
    }

    /// When each of them has come.
    pub fn jwt_called_at(&self) -> Vec<Instant> {
        self.jwt_svids.lock().expect("no panic in a call").calls.clone()
    }

    /// Replies with this to calls for JWT bundles from now on, on open streams too.
    pub fn reply_with_jwt_bundles(&self, reply: Reply) {
        self.jwt_bundles.reply(reply);
    }

    /// The same for calls for WIT-SVIDs.
    pub fn reply_with_wit(&self, reply: Reply) {
        self.wit_svids.reply(reply);
    }

    /// The same for calls for WIT bundles.
    pub fn reply_with_wit_bundles(&self, reply: Reply) {
        self.wit_bundles.reply(reply);
    }

    /// How many calls for JWT bundles there have been.
    pub fn jwt_bundle_calls(&self) -> u64 {
        self.jwt_bundles.lock().calls.len() as u64
    }

    /// How many calls for WIT-SVIDs there have been.
    pub fn wit_calls(&self) -> u64 {
        self.wit_svids.lock().calls.len() as u64
    }
}

impl Drop for WorkloadApiServer {
    fn drop(&mut self) {
        for stream in [&self.x509, &self.jwt_bundles, &self.wit_svids, &self.wit_bundles] {
            let mut state = stream.lock();
            state.stopped = true;
            state.wake_streams();
        }
        let stopped = self.grpc.shutdown();
        self.grpc.cancel_all_calls();
        block_on(stopped).expect("a server that stops");
    }
}

/// A method whose responses are bytes: they need not be good messages.
fn method<Request: Message>(ty: MethodType, name: &'static str) -> Method<Request, Vec<u8>> {
    Method {
        ty,
        name,
        req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
        resp_mar: Marshaller {
            ser: |bytes: &Vec<u8>, slice| {
                *slice = bytes.clone().into();
                Ok(())
            },
            de: |_| Ok(Vec::new()),
        },
    }
}

fn untrusted() -> Reply {
    Reply::Refuse(RpcStatusCode::INVALID_ARGUMENT, "security header missing from request".to_owned())
}

/// One call that has a single response.
fn answer(reply: Reply, sink: UnarySink<Vec<u8>>) {
    // A caller that is gone needs no answer.
    let _ = match reply {
        Reply::Send(bytes) => block_on(sink.success(bytes)),
        Reply::Refuse(code, message) => block_on(sink.fail(RpcStatus::with_message(code, message))),
        Reply::Close => block_on(sink.fail(RpcStatus::new(RpcStatusCode::INTERNAL))),
        Reply::Silence => {
            // Until the caller's own deadline ends the call.
            std::mem::forget(sink);
            Ok(())
        }
    };
}

impl Stream {
    fn new(reply: Reply) -> Self {
        let state = State {
            replies: vec![reply],
            next: VecDeque::new(),
            calls: Vec::new(),
            said: 0,
            stopped: false,
            waiting: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic in a stream")
    }

    fn reply(&self, reply: Reply) {
        let mut state = self.lock();
        state.replies.push(reply);
        state.wake_streams();
    }

    /// It looks at no request.
    fn handler(self: Arc<Self>) -> impl FnMut(RpcContext<'_>, Empty, ServerStreamingSink<Vec<u8>>) + Clone {
        move |context, _, sink| {
            let (stream, trusted) = (self.clone(), has_security_header(&context));
            std::thread::spawn(move || stream.serve(trusted, sink));
        }
    }

    /// One call, on a thread of its own, until it ends.
    fn serve(&self, trusted: bool, mut sink: ServerStreamingSink<Vec<u8>>) {
        let (mut once, mut said) = {
            let mut state = self.lock();
            state.calls.push(Instant::now());
            self.changed.notify_all();
            (state.next.pop_front(), state.replies.len() - 1)
        };
        if !trusted {
            once = Some(untrusted());
        }
        loop {
            let reply = match once.take() {
                Some(reply) => reply,
                None => match block_on(poll_fn(|context| self.poll_news(said, &mut sink, context))) {
                    Some(reply) => {
                        said += 1;
                        reply
                    }
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

    /// The reply with this number; `None` when the server stops, or the caller is gone.
    fn poll_news(
        &self,
        number: usize,
        sink: &mut ServerStreamingSink<Vec<u8>>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Reply>> {
        if let Poll::Ready(Err(_)) = Pin::new(sink).poll_ready(context) {
            return Poll::Ready(None);
        }
        let mut state = self.lock();
        if state.stopped {
            return Poll::Ready(None);
        }
        if let Some(reply) = state.replies.get(number).cloned() {
            state.said = state.said.max(number + 1);
            self.changed.notify_all();
            return Poll::Ready(Some(reply));
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
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
