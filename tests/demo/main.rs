//! Shows what the program is for: an application serves TLS with an SVID that is rotated, while a client connects
//! again and again and the agent is killed. No connection may fail.

mod application;
mod tls;

use std::error::Error;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use application::{Seen, locked};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Outcome<T> = Result<T, Box<dyn Error>>;

const ID: &str = "spiffe://example.org/workload";
const TRUST_DOMAIN: &str = "spiffe://example.org/";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [name, volume] if name == "application" => application::serve(Path::new(volume)),
        _ => demo(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nSomething went wrong: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Outcome<()> {
    let pod = tempfile::tempdir()?;
    let volume = pod.path().join("svids");
    let this_program = std::env::current_exe()?;
    let directory = this_program.parent().ok_or("the demo is in no directory")?;
    let helper = Helper::beside(directory);

    title("An agent, played by the tests' Workload API server, rotates the SVID every 4 seconds");
    let agent = start_agent(directory, pod.path())?;

    let at_socket = format!("--workload-api-socket={}", pod.path().join("agent.sock").display());
    let in_volume = format!("--svid-path={}", volume.display());
    let run = |arguments: &[&str]| {
        println!("$ pod-svid-helper {}", arguments.join(" "));
        ensure(helper.command().args(arguments).status()?.success(), "it failed")
    };
    title("inspect: what does the agent offer?");
    run(&["--mode=inspect", &at_socket])?;
    title("init: fetch once, write, end");
    run(&["--mode=init", &at_socket, &in_volume])?;
    title("check: are the files good?");
    run(&["--mode=check", &in_volume])?;
    title("The files are links into one set, which a rotation replaces at once");
    for directory in [&volume, &volume.join("..data/")] {
        ensure(Command::new("ls").arg("-lA").arg(directory).status()?.success(), "ls failed")?;
    }

    title("run: start an application, follow every rotation, and signal the application");
    println!(
        "The application is a TLS server. It asks for client certificates, and reads its files at SIGHUP."
    );
    println!("$ pod-svid-helper --mode=run {at_socket} {in_volume} -- demo application {}", volume.display());
    let mut command = helper.command();
    command.args(["--mode=run", &at_socket, &in_volume, "--"]).arg(&this_program).arg("application");
    let mut run = Process(command.arg(&volume).stderr(Stdio::piped()).spawn()?);
    let lines = Lines::of(&mut run)?;
    let line = lines.until("application: serial number ")?;
    let address = line.rsplit(' ').next().ok_or("the application does not say where it serves")?;

    title("A client connects again and again, each time with the files as they are then");
    let client = application::keep_connecting(volume, address.parse()?);
    wait_until("the client sees no server", || !locked(&client).serial.is_empty())?;
    (1..=3).try_for_each(|reload| rotation(reload, &lines, &client))?;

    title("The agent is killed: the files stay, and so does the application");
    drop(agent);
    let before = locked(&client).made;
    lines.during(Duration::from_secs(6));
    let without = locked(&client).made - before;
    println!("  -> {without} connections without an agent; {}", counts(&client));

    title("The agent is back, with a new certificate for its CA's key: the next rotations arrive");
    let _agent = start_agent(directory, pod.path())?;
    (4..=5).try_for_each(|reload| rotation(reload, &lines, &client))?;

    title("SIGTERM: the helper passes it on, and ends with its application");
    let Seen { made, failed, reason, .. } = std::mem::take(&mut *locked(&client));
    kill(Pid::from_raw(run.0.id().try_into()?), Signal::SIGTERM)?;
    lines.until(" ended with code 0")?;
    ensure(run.0.wait()?.success(), "the helper did not end with success")?;
    println!("\n5 rotations, an agent killed: {made} connections, {failed} failed");
    ensure(failed == 0, &reason)
}

/// The words that start the program: its path, or what BINARY_UNDER_TEST says, an emulator and a path for example.
struct Helper(Vec<OsString>);

impl Helper {
    fn beside(directory: &Path) -> Self {
        let words = std::env::var("BINARY_UNDER_TEST").unwrap_or_default();
        let words: Vec<_> = words.split_whitespace().map(OsString::from).collect();
        Self(if words.is_empty() { vec![directory.join("../pod-svid-helper").into()] } else { words })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.0.first().map_or("".as_ref(), OsString::as_os_str));
        command.args(self.0.iter().skip(1));
        command
    }
}

/// Waits until the application has reloaded and the client sees it.
fn rotation(reload: usize, lines: &Lines, client: &Mutex<Seen>) -> Outcome<()> {
    let old = locked(client).serial.clone();
    let line = lines.until(&format!("application: reload {reload}, "))?;
    let new = line.rsplit(' ').next().unwrap_or_default();
    wait_until("the client does not see the new certificate", || locked(client).serial == new)?;
    println!("  -> the client sees it: serial number {old} became {new}; {}", counts(client));
    Ok(())
}

fn counts(client: &Mutex<Seen>) -> String {
    let seen = locked(client);
    format!("{} connections so far, {} failed", seen.made, seen.failed)
}

fn start_agent(directory: &Path, pod: &Path) -> Outcome<Process> {
    let (socket, ca_key) = (pod.join("agent.sock"), pod.join("ca-key.der"));
    let mut command = Command::new(directory.join("workload-api-server"));
    command.arg("--socket").arg(&socket).arg("--ca-key").arg(ca_key).args(["--ttl=60", "--rotate=4"]);
    let agent = Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    wait_until("the agent does not serve", || UnixStream::connect(&socket).is_ok())?;
    Ok(agent)
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn ensure(is_so: bool, otherwise: &str) -> Outcome<()> {
    if is_so { Ok(()) } else { Err(otherwise.into()) }
}

fn wait_until(otherwise: &str, is_so: impl Fn() -> bool) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ensure(Instant::now() < deadline, otherwise)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A process that does not outlive the demo.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the helper and its application log, each line printed when it is waited for: before its effect.
struct Lines(Receiver<String>);

impl Lines {
    fn of(process: &mut Process) -> Outcome<Self> {
        let log = BufReader::new(process.0.stderr.take().ok_or("the log is not piped")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self(lines))
    }

    fn until(&self, text: &str) -> Outcome<String> {
        loop {
            let wanted = self.0.recv_timeout(PATIENCE);
            let line = wanted.map_err(|_| format!("there was no line with {text:?}"))?;
            println!("{line}");
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    fn during(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(line) = self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            println!("{line}");
        }
    }
}
