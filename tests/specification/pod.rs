//! The set-up of every test: a pod with an agent's socket and a volume, and the helper in it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use der::{Decode, Encode, Reader};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, X509SVID, X509SVIDResponse};
use tempfile::TempDir;
use workload_api_server::authority::{Authority, Recipe, jwt_response};
use workload_api_server::server::{Reply, WorkloadApiServer};
use x509_cert::Certificate;

use crate::process::is_zombie;

/// How long a test waits before it gives up on what must happen.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a helper may take to end: longer than a slow machine needs, and shorter than the waits
/// that a signal has to cut short.
pub const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How fast a signal ends a helper that runs nothing.
pub const STOP: Duration = Duration::from_millis(100);

/// The same on this machine as it is now: so many programs want each core.
pub fn stop_on_a_busy_machine() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").expect("/proc/loadavg");
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    // The average of the last minute, and, behind two more, the programs that run or want to just now.
    let programs = load.split([' ', '/']).step_by(3).take(2).filter_map(|text| text.parse::<f64>().ok());
    STOP.mul_f64(programs.fold(cores, f64::max) / cores)
}

/// All that the helper can write, in one set.
pub const EVERYTHING: [&str; 5] = [
    "--layout=pem,spiffe",
    "--combined-file-name=combined.pem",
    "--include-federated-bundles",
    "--jwt-svid=token.jwt=one,two",
    "--jwt-bundle-file-name=jwks.json",
];

/// For an init that tries again until its time is over: it is to fail.
pub const BRIEFLY: &str = "--init-timeout=3s";

/// The identity of most tests' workloads.
pub const ID: &str = "spiffe://example.org/workload";
/// Of the same trust domain.
pub const OTHER_ID: &str = "spiffe://example.org/other";

/// A pod: `agent.sock` and the volume `svids` in a directory of its own.
pub struct Pod {
    directory: TempDir,
    pub authority: Arc<Authority>,
    /// Another trust domain's.
    pub federated: Arc<Authority>,
}

impl Pod {
    pub fn new() -> Self {
        ignore_no_signal_in_children();
        let directory = tempfile::Builder::new().prefix("pod").tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))
            .expect("its permissions");
        std::fs::create_dir(directory.path().join("svids")).expect("a volume");
        let [authority, federated] = ["example.org", "other.org"].map(|name| Arc::new(Authority::new(name)));
        Self { directory, authority, federated }
    }

    /// A pod whose agent offers a new good SVID.
    pub fn with_agent() -> (Self, WorkloadApiServer) {
        let pod = Self::new();
        let agent = pod.agent(offer([pod.mint()]));
        (pod, agent)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("agent.sock")
    }

    pub fn volume(&self) -> PathBuf {
        self.path().join("svids")
    }

    /// Starts an agent on the pod's socket.
    pub fn agent(&self, reply: Reply) -> WorkloadApiServer {
        WorkloadApiServer::on_socket(&self.socket(), reply)
    }

    /// An agent that is set up before it answers the first call of a helper that waits for it.
    pub fn agent_after(&self, reply: Reply, set_up: impl FnOnce(&WorkloadApiServer)) -> WorkloadApiServer {
        WorkloadApiServer::on_socket_after(&self.socket(), reply, set_up)
    }

    /// An agent that serves JWT-SVIDs with this life, and JWT bundles, too.
    pub fn agent_with_jwt(&self, reply: Reply, ttl: Duration) -> WorkloadApiServer {
        self.agent_after(reply, |agent| {
            self.issue_jwt(agent, ttl);
            agent.reply_with_jwt_bundles(jwt_bundles([&self.authority, &self.federated]));
        })
    }

    /// Lets the agent issue JWT-SVIDs with this life.
    pub fn issue_jwt(&self, agent: &WorkloadApiServer, ttl: Duration) {
        let authority = self.authority.clone();
        agent.issue_jwt(move |request| {
            let id = if request.spiffe_id.is_empty() { ID } else { &request.spiffe_id };
            Reply::offer(&jwt_response([authority.mint_jwt(id, &request.audience, ttl)]))
        });
    }

    /// The text of a file in the volume.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.volume().join(name)).expect("a file")
    }

    /// Waits until a file in the volume is there, and its text is right.
    pub fn wait_for_file(&self, name: &str, is_right: impl Fn(&str) -> bool) -> String {
        let read = || std::fs::read_to_string(self.volume().join(name)).ok().filter(|text| is_right(text));
        let mut found = None;
        wait_until(&format!("{name} is right"), || {
            found = read();
            found.is_some()
        });
        found.expect("it was there")
    }

    /// Asserts that the volume holds one set, and nothing that earlier ones left: a name for each
    /// file, `..data`, and one hidden directory.
    pub fn holds_one_set(&self) {
        let (volume, set) = (names(&self.volume()), names(&self.volume().join("..data/.")));
        assert_eq!(volume.len(), set.len() + 2, "{volume:?} {set:?}");
    }

    /// An SVID with something for each file of [`EVERYTHING`].
    pub fn offer_everything(&self, svid: &X509SVID) -> Reply {
        let mut response = X509SVIDResponse::new();
        response.svids.push(svid.clone());
        response.crl.push(self.authority.crl());
        response.federated_bundles.insert(self.federated.id(), self.federated.bundle());
        Reply::offer(&response)
    }

    /// A new good SVID for [`ID`].
    pub fn mint(&self) -> X509SVID {
        self.authority.mint(&Recipe::for_id(ID))
    }

    /// The helper with the pod's socket and volume, and nothing else in its environment.
    pub fn helper(&self, arguments: &[&str]) -> Helper {
        self.helper_at(self.socket().display(), &self.volume()).arguments(arguments)
    }

    /// With another socket or directory.
    pub fn helper_at(&self, address: impl std::fmt::Display, directory: &Path) -> Helper {
        Helper::new()
            .argument(format!("--workload-api-socket={address}"))
            .argument(format!("--svid-path={}", directory.display()))
    }

    pub fn init(&self, arguments: &[&str]) -> Finished {
        self.helper(&["--mode=init"]).arguments(arguments).finish()
    }

    /// Lets the helper check what is published.
    pub fn check(&self, arguments: &[&str]) -> Finished {
        let path = format!("--svid-path={}", self.volume().display());
        Helper::new().arguments(&["--mode=check", &path]).arguments(arguments).finish()
    }

    /// An init that tries again until its time is over, and fails with a last line that says all of these. It
    /// gets more time where it had none for its first attempt: a busy machine takes seconds for a large response.
    pub fn init_fails_with(&self, parts: &[&str]) -> Finished {
        let init = |seconds: u64| self.init(&[&format!("--init-timeout={seconds}s")]);
        let says_all = |init: &Finished| {
            let last = init.log.lines().last().unwrap_or_default();
            parts.iter().all(|part| last.contains(part))
        };
        [1, 8].into_iter().map(init).find(says_all).unwrap_or_else(|| init(64)).failed_with(parts)
    }

    pub fn refresh(&self, arguments: &[&str]) -> Running {
        self.helper(&["--mode=refresh"]).arguments(arguments).start()
    }

    /// Writes the pod's PID file; gives the option that names it.
    pub fn pid_file(&self, text: impl std::fmt::Display) -> String {
        let path = self.path().join("app.pid");
        std::fs::write(&path, format!("{text}\n")).expect("a PID file");
        format!("--pid-file={}", path.display())
    }

    /// A command that runs a script, for which `$0` is the pod's directory.
    pub fn script(&self, text: &str) -> Vec<String> {
        ["/bin/sh", "-c", text, self.path().to_str().expect("UTF-8")].map(str::to_owned).to_vec()
    }

    /// Lets scripts end that wait for the file `end` of the pod's directory.
    pub fn let_end(&self) {
        std::fs::write(self.path().join("end"), "").expect("a file");
    }

    /// What scripts have written into the file `runs` of the pod's directory.
    pub fn runs(&self) -> String {
        std::fs::read_to_string(self.path().join("runs")).unwrap_or_default()
    }

    /// Waits until scripts have written so many lines, and asserts that they are these.
    pub fn wait_for_runs(&self, text: &str) {
        let lines = text.lines().count();
        wait_until(&format!("a script has written {text:?}"), || self.runs().lines().count() >= lines);
        assert_eq!(self.runs(), text);
    }

    /// Lets the agent offer this SVID, and waits until it is published.
    pub fn rotate_to(&self, agent: &WorkloadApiServer, svid: &X509SVID) {
        agent.reply(offer([svid.clone()]));
        self.wait_for(svid);
    }

    /// The same with a new one.
    pub fn rotate(&self, agent: &WorkloadApiServer) {
        self.rotate_to(agent, &self.mint());
    }

    /// Waits until each of the three names gives the SVID's file.
    pub fn wait_for(&self, svid: &X509SVID) {
        wait_until(&format!("{} is published", serial(svid)), || {
            Published::by_name(&self.volume()).is_ok_and(|set| {
                set.chain() == svid.x509_svid
                    && set.key() == version_1(&svid.x509_svid_key)
                    && set.bundle() == svid.bundle
            })
        });
    }
}

/// A PKCS#8 key as the helper writes it: version 1.
pub fn version_1(key: &[u8]) -> Vec<u8> {
    let key = pkcs8::PrivateKeyInfoRef::try_from(key).expect("PKCS#8");
    pkcs8::PrivateKeyInfoRef::new(key.algorithm, key.private_key).to_der().expect("DER")
}

/// Minted SVIDs as a response.
pub fn offer(svids: impl IntoIterator<Item = X509SVID>) -> Reply {
    Reply::offer(&X509SVIDResponse { svids: svids.into_iter().collect(), ..Default::default() })
}

/// The keys of trust domains as a response.
pub fn jwt_bundles<'a>(authorities: impl IntoIterator<Item = &'a Arc<Authority>>) -> Reply {
    let mut response = JWTBundlesResponse::new();
    response.bundles = authorities.into_iter().map(|authority| (authority.id(), authority.jwks())).collect();
    Reply::offer(&response)
}

/// The serial number of an SVID's leaf, in hexadecimal. (The test server's are 64-bit numbers.)
pub fn serial(svid: &X509SVID) -> String {
    let mut chain = der::SliceReader::new(&svid.x509_svid).expect("DER");
    let leaf = Certificate::from_der(chain.tlv_bytes().expect("a certificate")).expect("a certificate");
    let bytes = leaf.tbs_certificate().serial_number().as_bytes();
    let number = bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    format!("{number:x}")
}

/// The three files.
pub struct Published {
    chain: String,
    key: String,
    bundle: String,
}

impl Published {
    /// Opens the three names one after the other, as an application does.
    pub fn by_name(volume: &Path) -> std::io::Result<Self> {
        let read = |name| std::fs::read_to_string(volume.join(name));
        Ok(Self { chain: read("svid.pem")?, key: read("svid-key.pem")?, bundle: read("bundle.pem")? })
    }

    /// Reads the directory behind `..data`, so that the three belong together; again when it is
    /// replaced meanwhile.
    pub fn as_one(volume: &Path) -> std::io::Result<Self> {
        loop {
            let data = std::fs::read_link(volume.join("..data"))?;
            match Self::in_directory(&volume.join(&data)) {
                Err(_) if std::fs::read_link(volume.join("..data")).is_ok_and(|now| now != data) => {}
                read => return read,
            }
        }
    }

    /// Reads the three, and asserts that what else of [`EVERYTHING`] has a key in it has the same.
    fn in_directory(directory: &Path) -> std::io::Result<Self> {
        let others =
            ["combined.pem", "credential-bundle.private-key.x509.pem"].map(|name| directory.join(name));
        let others = others.into_iter().filter(|path| path.exists());
        let others: Vec<_> = others.map(std::fs::read_to_string).collect::<Result<_, _>>()?;
        let set = Self::by_name(directory)?;
        others.iter().for_each(|other| assert_eq!(*other, set.key.clone() + &set.chain));
        Ok(set)
    }

    /// Concatenated DER, as it was offered.
    pub fn chain(&self) -> Vec<u8> {
        ders(&self.chain, "CERTIFICATE")
    }

    pub fn key(&self) -> Vec<u8> {
        ders(&self.key, "PRIVATE KEY")
    }

    pub fn bundle(&self) -> Vec<u8> {
        ders(&self.bundle, "CERTIFICATE")
    }
}

/// Decodes PEM that holds blocks of one label and nothing else.
pub fn ders(pem: &str, label: &str) -> Vec<u8> {
    let end = format!("-----END {label}-----\n");
    let mut all = Vec::new();
    for block in pem.split_inclusive(&end) {
        let (found, der) = der::pem::decode_vec(block.as_bytes()).expect("PEM");
        assert_eq!(found, label);
        all.extend(der);
    }
    all
}

/// The claims of a token in compact serialization.
pub fn claims(token: &str) -> serde_json::Value {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let payload = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload).expect("base64url")).expect("JSON")
}

/// Names in a directory, sorted, without those that a running helper holds.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.retain(|name| !["..names", "..identity"].contains(&name.as_str()));
    names.sort();
    names
}

pub fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// Sets a flag at the end of its scope, so that threads which look at it end even when a test fails.
pub struct SetWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Removes what is in a directory. A helper may still be at work there.
pub fn clear(directory: &Path) {
    wait_until("the directory is empty", || {
        let entries = || std::fs::read_dir(directory).expect("the directory");
        for path in entries().map(|entry| entry.expect("an entry").path()) {
            // The helper may have been faster.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
        entries().next().is_none()
    });
}

/// Removes a directory. A helper may still be at work there.
pub fn remove(directory: &Path) {
    clear(directory);
    std::fs::remove_dir(directory).expect("an empty directory");
}

/// What a test starts does not inherit that a signal is ignored: nohup(1) ignores SIGHUP, and a shell without
/// job control SIGINT and SIGQUIT in the background. A shell cannot trap such a signal. The tests themselves
/// live on: they catch the signal and do nothing, which no program inherits.
#[allow(unsafe_code, reason = "nix has sigaction as unsafe")]
fn ignore_no_signal_in_children() {
    static ONCE: Once = Once::new();
    extern "C" fn do_nothing(_: i32) {}
    let caught = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::SA_RESTART, SigSet::empty());
    ONCE.call_once(|| {
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            // SAFETY: the handler does nothing.
            let before = unsafe { sigaction(signal, &caught) }.expect("a signal");
            if !matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: it was there before.
                unsafe { sigaction(signal, &before) }.expect("a signal");
            }
        }
    });
}

/// How the program under test is started: this build's or, with `BINARY_UNDER_TEST`, another one. Its words are a
/// path, perhaps behind an emulator: `qemu-aarch64 PATH`.
fn binary_under_test() -> Vec<String> {
    let words = std::env::var("BINARY_UNDER_TEST").unwrap_or_default();
    let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
    let Some((program, rest)) = words.split_first() else {
        return vec![env!("CARGO_BIN_EXE_pod-svid-helper").to_owned()];
    };
    // Some tests give the program a PATH of its own.
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories).map(|directory| directory.join(program));
    let program = found.filter(|path| path.is_file()).find_map(|path| path.to_str().map(str::to_owned));
    let program = program.unwrap_or_else(|| words[0].clone());
    [&[program], rest].concat()
}

/// The file of the program under test.
pub fn program_under_test() -> PathBuf {
    binary_under_test().pop().expect("a path").into()
}

/// Whether an emulator runs the program: what the kernel tells of the process is then the emulator's. Says aloud
/// that a test is left out.
pub fn is_emulated(what: &str) -> bool {
    let is_emulated = binary_under_test().len() > 1;
    if is_emulated {
        skip(&format!("{what}: the program runs in an emulator"));
    }
    is_emulated
}

/// A command line of the helper.
pub struct Helper {
    command: Command,
}

impl Helper {
    /// Without arguments and without environment.
    pub fn new() -> Self {
        ignore_no_signal_in_children();
        let mut words = binary_under_test();
        let mut command = Command::new(words.remove(0));
        command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    pub fn argument(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// What follows `--`.
    pub fn command(self, command: &[impl AsRef<std::ffi::OsStr>]) -> Self {
        command.iter().fold(self.argument("--"), Self::argument)
    }

    pub fn variable(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it through another program: `unshare`, say.
    pub fn through(self, program: &str, arguments: &[&str]) -> Self {
        let mut outer = Command::new(program);
        outer.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        outer.args(arguments).arg(self.command.get_program()).args(self.command.get_args());
        outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command: outer }
    }

    /// The same arguments for another program.
    pub fn of(self, program: &Path) -> Self {
        let mut other = Command::new(program);
        other.args(self.command.get_args()).env_clear();
        other.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command: other }
    }

    /// With its stdout or its stderr at a device that is always full.
    pub fn into_full_device(mut self, stdout: bool) -> Self {
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        if stdout {
            self.command.stdout(full())
        } else {
            self.command.stderr(full())
        };
        self
    }

    /// As a user other than root.
    pub fn run_by_nobody(self) -> Self {
        self.run_by(NOBODY, NOBODY)
    }

    pub fn run_by(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    pub fn finish(mut self) -> Finished {
        let output = self.command.output().expect("the helper runs");
        Finished {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            log: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// With this stderr, which is the test's to read.
    pub fn start_with_stderr(mut self, stderr: impl Into<Stdio>) -> Child {
        self.command.stderr(stderr).spawn().expect("the helper starts")
    }

    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("the helper starts");
        let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines, log: Vec::new(), read: 0 }
    }
}

/// The user `nobody`.
pub const NOBODY: u32 = 65534;

/// Whether the tests run as root: some need it to become another user, or to mount.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says aloud, past the test harness, that the running test is skipped, and why.
pub fn skip(why: &str) {
    use std::io::Write;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A run of the helper that has ended.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub log: String,
}

impl Finished {
    pub fn succeeded(self) -> Self {
        assert_eq!(self.status.code(), Some(0), "{}", self.log);
        self
    }

    /// It failed, and the last line of its log says all of these.
    pub fn failed_with(self, parts: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(1), "{}", self.log);
        let last = self.log.lines().last().unwrap_or_default();
        assert!(last.contains("ERROR"), "{}", self.log);
        parts.iter().for_each(|part| assert!(last.contains(part), "{part:?} is not in {last:?}"));
        self
    }

    /// It refused its command line in one line that says all of these.
    pub fn refused_with(self, parts: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(2), "{}", self.log);
        assert_eq!(self.log.lines().count(), 1, "{}", self.log);
        parts.iter().for_each(|part| assert!(self.log.contains(part), "{part:?} is not in {:?}", self.log));
        self
    }
}

/// A running helper; killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    /// How many lines earlier waits have passed.
    read: usize,
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a PID"))
    }

    /// Waits for a line that says all of these, behind the lines that earlier waits have passed.
    pub fn wait_for_log(&mut self, parts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while self.read < self.log.len() {
                let line = &self.log[self.read];
                self.read += 1;
                if parts.iter().all(|part| line.contains(part)) {
                    return line.clone();
                }
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited {PATIENCE:?} for {parts:?}:\n{}", self.log.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the log ended before {parts:?}:\n{}", self.log.join("\n"))
                }
            }
        }
    }

    /// Passes the lines that are there.
    pub fn pass_log(&mut self) {
        self.log.extend(self.lines.try_iter());
        self.read = self.log.len();
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a running helper");
    }

    /// Tells it to stop and asserts that it does so with success; returns all it has logged.
    pub fn stop(mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        self.finish(0)
    }

    /// Asserts that it ends with this exit code; returns all it has logged.
    pub fn finish(&mut self, code: i32) -> Vec<String> {
        let (found, log) = self.end();
        assert_eq!(found, Some(code), "{}", log.join("\n"));
        log
    }

    /// Asserts that it ends; returns its exit code, if it was not killed, and all it has logged.
    pub fn end(&mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + STOP_PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "the helper does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.log.extend(self.lines.iter());
        (status.code(), std::mem::take(&mut self.log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of an application, which writes down each signal that it gets. Killed when dropped.
pub struct App {
    child: Child,
    signals: PathBuf,
}

/// Says that it is ready by its empty list of signals. It ends with its parent, so that a
/// test that fails leaves nothing behind.
const APP: &str = r#"
    for signal in HUP USR1 USR2 37; do trap "echo $signal >>\"$0/signals-$$\"" $signal; done
    : >"$0/signals-$$"
    while [ -d /proc/$PPID ]; do sleep 0.05; done
"#;

impl App {
    /// A process of this name, which is the file name of what it runs.
    pub fn start(pod: &Pod, name: &str) -> Self {
        Self::start_as(pod, name, name)
    }

    /// The same, as another user. Needs root.
    pub fn start_by_nobody(pod: &Pod, name: &str) -> Self {
        std::fs::set_permissions(pod.path(), PermissionsExt::from_mode(0o777)).expect("its permissions");
        Self::spawn(pod, name, name, |command| command.uid(NOBODY).gid(NOBODY))
    }

    /// A process that is told another name for itself than that of what it runs.
    pub fn start_as(pod: &Pod, name: &str, told: &str) -> Self {
        Self::spawn(pod, name, told, |command| command)
    }

    fn spawn(pod: &Pod, name: &str, told: &str, set_up: fn(&mut Command) -> &mut Command) -> Self {
        let program = pod.path().join(name);
        match std::os::unix::fs::symlink("/bin/sh", &program) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => panic!("{error}"),
            _ => {}
        }
        let mut command = Command::new(program);
        command.arg0(told).args(["-c", APP]).arg(pod.path()).stdin(Stdio::null()).stderr(Stdio::null());
        let child = set_up(&mut command).spawn().expect("a shell");
        let signals = pod.path().join(format!("signals-{}", child.id()));
        wait_until("the application is ready", || signals.exists());
        Self { child, signals }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a PID"))
    }

    pub fn signals(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.signals).expect("a list of signals");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until it has got so many signals, and asserts that they are these.
    pub fn wait_for_signals(&self, signals: &[&str]) {
        wait_until(&format!("the application has got {signals:?}"), || self.signals().len() >= signals.len());
        assert_eq!(self.signals(), signals);
    }

    /// Asserts that it has got these signals and no other. One more tells that none is on its way.
    pub fn has_got(&self, signals: &[&str]) {
        kill(self.pid(), Signal::SIGUSR2).expect("a running application");
        wait_until("the last signal has come", || self.signals().last().is_some_and(|last| last == "USR2"));
        assert_eq!(self.signals(), [signals, &["USR2"]].concat());
    }

    /// Kills it, and lets it be a zombie.
    pub fn kill(&mut self) {
        self.child.kill().expect("a running application");
        wait_until("the application is dead", || is_zombie(self.pid()));
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
