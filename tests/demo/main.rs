//! Shows the program at work: an agent, what it offers, `init`, `refresh` through three rotations,
//! and the end.

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

type Outcome<T> = Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(30);
const ROTATIONS: usize = 3;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => {
            println!("\nAll was well: fetched, written, rotated {ROTATIONS} times, stopped.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nSomething went wrong: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Outcome<()> {
    let pod = tempfile::tempdir()?;
    let (socket, volume) = (pod.path().join("agent.sock"), pod.path().join("svids"));

    title("An agent, played by the tests' Workload API server: it rotates its SVIDs every 2 seconds");
    let server = beside_this_program("examples/workload-api-server")?;
    let _agent = agent(&server, &socket)?;

    let helper = beside_this_program("pod-svid-helper")?;
    let run = |arguments: &[&str]| {
        println!("$ pod-svid-helper {}", arguments.join(" "));
        let status = Command::new(&helper).args(arguments).status()?;
        ensure(status.success(), "it failed")
    };
    let arguments =
        [format!("--workload-api-socket={}", socket.display()), format!("--svid-path={}", volume.display())];
    let [at_socket, in_volume] = arguments.each_ref().map(String::as_str);

    title("inspect: what the agent offers");
    run(&["--mode=inspect", at_socket])?;

    title("init: fetches once, writes, ends");
    run(&["--mode=init", at_socket, in_volume])?;

    title("check: are the files good?");
    run(&["--mode=check", in_volume])?;

    title("The files, and what is in them");
    list(&volume)?;
    let mut serial = describe(&volume)?;

    title("refresh: follows every rotation");
    println!("$ pod-svid-helper --mode=refresh {}", arguments.join(" "));
    let mut refresh = Process::start(Command::new(&helper).arg("--mode=refresh").args(&arguments))?;
    for _ in 0..ROTATIONS {
        let old = serial.clone();
        let deadline = Instant::now() + PATIENCE;
        while serial == old {
            ensure(Instant::now() < deadline, "the rotation was not published")?;
            std::thread::sleep(Duration::from_millis(10));
            serial = certificate(&volume)?.tbs_certificate().serial_number().to_string();
        }
        println!("  -> serial number {old} became {serial}");
    }

    title("SIGTERM");
    kill(Pid::from_raw(refresh.0.id().try_into()?), Signal::SIGTERM)?;
    let status = refresh.0.wait()?;
    println!("refresh ended with {status}");
    ensure(status.success(), "refresh did not end with success")
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn ensure(is_so: bool, otherwise: &str) -> Outcome<()> {
    if is_so { Ok(()) } else { Err(otherwise.into()) }
}

/// Starts the server and waits until it serves.
fn agent(server: &Path, socket: &Path) -> Outcome<Process> {
    let mut command = Command::new(server);
    command
        .arg("--socket")
        .arg(socket)
        .args(["--ttl=6", "--rotate=2"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let agent = Process::start(&mut command)?;
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(socket).is_err() {
        ensure(Instant::now() < deadline, "the server does not serve")?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(agent)
}

/// A process that does not outlive the demo.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Outcome<Self> {
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn beside_this_program(name: &str) -> Outcome<PathBuf> {
    let examples = std::env::current_exe()?;
    let release =
        examples.parent().and_then(Path::parent).ok_or("the demo is not in target/*/release/examples")?;
    Ok(release.join(name))
}

fn list(volume: &Path) -> Outcome<()> {
    ensure(Command::new("ls").arg("-lA").arg(volume).status()?.success(), "ls failed")?;
    println!("..data/:");
    ensure(Command::new("ls").arg("-lA").arg(volume.join("..data/")).status()?.success(), "ls failed")
}

fn certificate(volume: &Path) -> Outcome<Certificate> {
    Ok(Certificate::load_pem_chain(&std::fs::read(volume.join("svid.pem"))?)?.swap_remove(0))
}

/// Prints what the files say, and returns the serial number.
fn describe(volume: &Path) -> Outcome<String> {
    let leaf = certificate(volume)?;
    let leaf = leaf.tbs_certificate();
    let names = leaf.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0).unwrap_or_default();
    let uris: Vec<_> = names.iter().filter_map(uri).collect();
    let bundle = Certificate::load_pem_chain(&std::fs::read(volume.join("bundle.pem"))?)?;
    let key = std::fs::read_to_string(volume.join("svid-key.pem"))?;
    let (label, _) = der::pem::decode_vec(key.as_bytes()).map_err(|error| error.to_string())?;
    let serial = leaf.serial_number().to_string();
    println!("svid.pem:     {}", uris.join(", "));
    println!(
        "              serial number {serial}, from {} to {}",
        leaf.validity().not_before,
        leaf.validity().not_after
    );
    println!("svid-key.pem: a {label}");
    println!("bundle.pem:   {} CA certificate", bundle.len());
    Ok(serial)
}

fn uri(name: &GeneralName) -> Option<&str> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    }
}
