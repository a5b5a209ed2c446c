//! A peer on a Unix socket that speaks bytes: all that a gRPC server does not say.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What becomes of a connection, which has this number, counted from 0.
pub type Behaviour = dyn Fn(usize, UnixStream) -> std::io::Result<()> + Send + Sync;

/// A running peer. Dropping it closes all connections and removes its socket.
pub struct RawPeer {
    path: PathBuf,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: Mutex<Connections>,
    changed: Condvar,
}

#[derive(Default)]
struct Connections {
    accepted: usize,
    open: HashMap<usize, UnixStream>,
    /// How many have had what the behaviour has for them.
    served: usize,
    is_stopped: bool,
}

impl RawPeer {
    /// Serves on a Unix socket, in place of any socket that is there.
    pub fn on_socket(path: &Path, behaviour: Arc<Behaviour>) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        let state = Arc::new(State::default());
        let peer = Self { path: path.to_owned(), state: state.clone() };
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let Some(number) = state.accept(&connection) else { return };
                let (state, behaviour) = (state.clone(), behaviour.clone());
                std::thread::spawn(move || {
                    let reader = connection.try_clone().expect("a descriptor");
                    // A caller that is gone has had enough.
                    let _ = behaviour(number, connection);
                    state.served();
                    drain(reader);
                    state.closed(number);
                });
            }
        });
        peer
    }

    /// Waits until so many connections have been served.
    pub fn wait_for(&self, connections: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state.connections.lock().expect("no panic in a connection");
        while state.served < connections {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {patience:?} for {connections}, and there were {}",
                state.served
            );
            state = self.state.changed.wait_timeout(state, left).expect("no panic in a connection").0;
        }
    }
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        let mut connections = self.state.connections.lock().expect("no panic in a connection");
        connections.is_stopped = true;
        for connection in connections.open.values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(connections);
        // Wakes the listener, which ends.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

impl State {
    /// The connection's number; `None` once the peer is stopped.
    fn accept(&self, connection: &UnixStream) -> Option<usize> {
        let mut connections = self.connections.lock().expect("no panic in a connection");
        let number = connections.accepted;
        connections.accepted += 1;
        connections.open.insert(number, connection.try_clone().expect("a descriptor"));
        (!connections.is_stopped).then_some(number)
    }

    fn served(&self) {
        self.connections.lock().expect("no panic in a connection").served += 1;
        self.changed.notify_all();
    }

    fn closed(&self, number: usize) {
        self.connections.lock().expect("no panic in a connection").open.remove(&number);
    }
}

/// Reads to the end.
fn drain(mut connection: UnixStream) {
    let _ = std::io::copy(&mut connection, &mut std::io::sink());
}

/// Says this, at once, and keeps the connection open.
pub fn say_at_once(bytes: Vec<u8>) -> Arc<Behaviour> {
    Arc::new(move |_, mut connection| connection.write_all(&bytes))
}

/// Says this to a request, and keeps the connection open.
pub fn say(bytes: Vec<u8>) -> Arc<Behaviour> {
    Arc::new(move |_, mut connection| {
        read_request(&mut connection)?;
        let reader = connection.try_clone()?;
        std::thread::spawn(|| drain(reader));
        connection.write_all(&bytes)
    })
}

/// Says this to a request, and hangs up.
pub fn say_and_hang_up(bytes: Vec<u8>) -> Arc<Behaviour> {
    let say = say(bytes);
    Arc::new(move |number, connection| {
        say(number, connection.try_clone()?)?;
        connection.shutdown(Shutdown::Both)
    })
}

/// Passes on what an agent says, and hangs up after so many bytes, which depend on the connection's
/// number. With a pause, the bytes come one by one.
pub fn pass_on(
    agent: PathBuf,
    limit: impl Fn(usize) -> usize + Send + Sync + 'static,
    pause: Duration,
) -> Arc<Behaviour> {
    Arc::new(move |number, mut connection| {
        let mut upstream = UnixStream::connect(&agent)?;
        let (mut requests, mut to_agent) = (connection.try_clone()?, upstream.try_clone()?);
        std::thread::spawn(move || {
            std::io::copy(&mut requests, &mut to_agent)?;
            to_agent.shutdown(Shutdown::Both)
        });
        let mut left = limit(number);
        let mut buffer = [0; 4096];
        while left > 0 {
            let most = if pause.is_zero() { left.min(buffer.len()) } else { 1 };
            let read = upstream.read(&mut buffer[..most])?;
            if read == 0 {
                break;
            }
            connection.write_all(&buffer[..read])?;
            left -= read;
            std::thread::sleep(pause);
        }
        let _ = upstream.shutdown(Shutdown::Both);
        connection.shutdown(Shutdown::Both)
    })
}

/// Reads up to the end of the request on stream 1 (RFC 9113, section 4.1).
pub fn read_request(connection: &mut UnixStream) -> std::io::Result<()> {
    connection.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()])?;
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::copy(&mut connection.take(length.into()), &mut std::io::sink())?;
        if head[3] == DATA && head[4] & END_STREAM != 0 {
            return Ok(());
        }
        if head[3] == GOAWAY {
            return Err(ErrorKind::ConnectionAborted.into());
        }
    }
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const ALTSVC: u8 = 10;
pub const ORIGIN: u8 = 12;
pub const PRIORITY_UPDATE: u8 = 16;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const HAS_PRIORITY: u8 = 32;

/// An HTTP/2 frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What a server says first: its settings.
pub fn greeting() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// A block of literal header fields (RFC 7541, section 6.2.2); all lengths are below 127.
pub fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

/// The head of an answer on stream 1.
pub fn head(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, 1, &header_block(fields))
}

/// The head of a good answer.
pub fn good_head() -> Vec<u8> {
    head(0, &[(":status", "200"), ("content-type", "application/grpc")])
}

/// A gRPC message on stream 1, in as many frames as it needs.
pub fn message(is_compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short message").to_be_bytes();
    let message = [&[u8::from(is_compressed)], &length[..], bytes].concat();
    message.chunks(16384).flat_map(|chunk| frame(DATA, 0, 1, chunk)).collect()
}
