//! The application that the helper starts: a TLS server that reads its files again at SIGHUP. And its client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::tls::{Files, id_and_serial};
use crate::{ID, Outcome, PATIENCE, TRUST_DOMAIN, ensure};

/// Serves until SIGTERM. Its first line says where.
pub fn serve(volume: &Path) -> Outcome<()> {
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (serial, config) = load(volume)?;
    say(&format!("serial number {serial}, serves on {}", listener.local_addr()?));
    let current = Arc::new(Mutex::new(config));
    let shared = Arc::clone(&current);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let config = Arc::clone(&locked(&shared));
            if let Err(error) = stream.map_err(Into::into).and_then(|stream| answer(stream, config)) {
                say(&format!("a connection failed: {error}"));
            }
        }
    });
    let mut reloads = 0;
    while signals.wait()? == Signal::SIGHUP {
        let (serial, config) = load(volume)?;
        *locked(&current) = config;
        reloads += 1;
        say(&format!("reload {reloads}, serial number {serial}"));
    }
    say(&format!("SIGTERM, ends after {reloads} reloads"));
    Ok(())
}

/// Logs a line in one piece: the helper has the same stderr.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("application: {text}\n").as_bytes());
}

fn load(volume: &Path) -> Outcome<(String, Arc<ServerConfig>)> {
    let files = Files::read(volume)?;
    Ok((id_and_serial(Some(&files.chain))?.1, files.server()?))
}

/// Tells a client of the trust domain who it is.
fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> Outcome<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut tls = StreamOwned::new(ServerConnection::new(config)?, stream);
    tls.conn.complete_io(&mut tls.sock)?;
    let (id, _) = id_and_serial(tls.conn.peer_certificates())?;
    ensure(id.starts_with(TRUST_DOMAIN), "the client is of another trust domain")?;
    tls.write_all(id.as_bytes())?;
    tls.conn.send_close_notify();
    Ok(tls.flush()?)
}

/// What the client has seen so far.
#[derive(Default)]
pub struct Seen {
    pub made: usize,
    pub failed: usize,
    /// Why the newest failure was.
    pub reason: String,
    /// The serial number of the server's certificate in the newest connection.
    pub serial: String,
}

/// A client that makes one connection after the other.
pub fn keep_connecting(volume: PathBuf, server: SocketAddr) -> Arc<Mutex<Seen>> {
    let seen = Arc::<Mutex<Seen>>::default();
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        loop {
            let outcome = connect(&volume, server);
            let mut seen = locked(&shared);
            seen.made += 1;
            match outcome {
                Ok(serial) => seen.serial = serial,
                Err(error) => (seen.failed, seen.reason) = (seen.failed + 1, error.to_string()),
            }
            drop(seen);
            // A minute of connections must not use up the ports of this machine.
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    seen
}

/// One connection, with the files as they are now; returns the serial number of the server.
fn connect(volume: &Path, server: SocketAddr) -> Outcome<String> {
    let config = Files::read(volume)?.client()?;
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = IpAddr::from(Ipv4Addr::LOCALHOST).into();
    let mut tls = StreamOwned::new(ClientConnection::new(config, name)?, stream);
    let mut answer = String::new();
    tls.read_to_string(&mut answer)?;
    ensure(answer == ID, "the server took the client for another")?;
    Ok(id_and_serial(tls.conn.peer_certificates())?.1)
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
