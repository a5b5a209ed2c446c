//! Processes in the tests: found in log lines, looked at in `/proc`, started as process 1.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::pod::{Helper, Running, is_root, wait_until};

/// The number in "(process 12)".
pub fn process_in(line: &str) -> Pid {
    let number = line.split("(process ").nth(1).and_then(|rest| rest.split(')').next());
    Pid::from_raw(number.and_then(|number| number.parse().ok()).expect("a process"))
}

/// The position of the first line that says all of these.
pub fn position(log: &[String], parts: &[&str]) -> Option<usize> {
    log.iter().position(|line| parts.iter().all(|part| line.contains(part)))
}

/// The children of a process, zombies among them.
pub fn children(process: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    let children =
        threads.map(|thread| std::fs::read_to_string(thread.expect("a thread").path().join("children")));
    let children: String = children.map(|children| children.unwrap_or_default()).collect();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().expect("a PID"))).collect()
}

/// Starts the helper as process 1 of a PID namespace; gives `unshare`, which ends with the helper's code,
/// and the helper.
pub fn start_as_process_one(helper: Helper) -> (Running, Pid) {
    let mut namespace = vec!["--pid", "--fork", "--kill-child"];
    if !is_root() {
        namespace.push("--map-root-user");
    }
    let unshare = helper.through("unshare", &namespace).start();
    let mut helper = None;
    wait_until("the helper is a child of unshare", || {
        helper = children(unshare.pid()).first().copied();
        helper.is_some()
    });
    (unshare, helper.expect("a child"))
}

/// Whether a process has ended, and its parent has not taken note.
pub fn is_zombie(process: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Whether a process has a signal in a mask of `/proc/PID/status`: `SigIgn:`, say.
pub fn has_in_mask(process: Pid, mask: &str, signal: Signal) -> bool {
    signals_in_mask(process, mask) & 1 << (signal as i32 - 1) != 0
}

/// A mask of `/proc/PID/status`: its standard signals. (The C library ignores its own in a child.)
pub fn signals_in_mask(process: Pid, mask: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix(mask)).expect("the mask").trim();
    u64::from_str_radix(line, 16).expect("hexadecimal") & 0x7fff_ffff
}

/// The application of that test is a shell, which traps SIGHUP.
#[test]
fn a_test_that_has_inherited_ignored_signals_starts_programs_that_do_not_ignore_them() {
    let tests = std::env::current_exe().expect("the tests");
    let test = "notification::the_process_of_the_pid_file_gets_a_sighup_after_each_publication";
    let mut run = Command::new("/bin/sh");
    run.args(["-c", "trap '' HUP INT QUIT TERM; exec \"$0\" --exact \"$1\""]).arg(tests).arg(test);
    let output = run.output().expect("the tests run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// How long a process has run on a processor, in its own code and in the kernel.
pub fn cpu_time(process: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let after_name = stat.rsplit(')').next().expect("fields");
    let ticks =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
    // A hundred a second, on every architecture.
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
