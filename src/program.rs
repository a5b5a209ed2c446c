//! The program: options in, one mode, an exit code out.

use std::io::{self, ErrorKind, Write};

use crate::last_resort::{self, FAILURE};
use crate::logging::{self, LogFormat};
use crate::mode::main_loop::Ended;
use crate::mode::{check, inspect, main_loop, token};
use crate::options::{self, Mode, Plan, Request, Task};
use crate::process::core_dumps;
use crate::process::environment::set_grpc_variables_aside;
use crate::time::clock::Now;
use crate::wait::{Waiter, let_signals_end_us};
use crate::words::{Flaw, flaw};

const SUCCESS: u8 = 0;
const USAGE_ERROR: u8 = 2;

/// Does what the command line and the environment say, and ends the process.
pub fn run() -> ! {
    set_grpc_variables_aside();
    let arguments = std::env::args_os().skip(1).collect();
    let code = match options::read(arguments, std::env::vars_os()) {
        Ok(Request::Print(text)) => match print(&text) {
            Ok(()) => SUCCESS,
            Err(error) => {
                let _ = writeln!(io::stderr(), "pod-svid-helper: {error}");
                FAILURE
            }
        },
        Ok(Request::Do(plan)) => {
            let code = follow_plan(&plan);
            logging::finish();
            code
        }
        Err(error) => {
            // Without a stderr, the exit code is the message.
            let _ = writeln!(io::stderr(), "pod-svid-helper: {error}");
            USAGE_ERROR
        }
    };
    last_resort::leave(code)
}

fn follow_plan(plan: &Plan) -> u8 {
    // First of all: a signal that comes before it is lost to process 1, and deadly to any other.
    let waiter = Waiter::new();
    let has_time = matches!(plan.task, Task::Follow(_));
    logging::start(plan.log_level, plan.log_format, has_time);
    explain_panics();
    let waiter = match waiter {
        Ok(waiter) => waiter,
        Err(error) => return failed(&format!("cannot wait for signals: {error}")),
    };
    last_resort::explain_aborts(plan.log_format == LogFormat::Json);
    core_dumps::forbid(matches!(&plan.task, Task::Follow(settings) if settings.has_children()));
    plan.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    match &plan.task {
        Task::Follow(settings) => follow(plan.mode, settings, &waiter),
        Task::Check(settings) => tell(check::run(settings, Now::look()).map(|line| line + "\n")),
        Task::Inspect(settings) => tell(inspect::run(settings, &waiter)),
        Task::Token(settings) => tell(token::run(settings, &waiter)),
    }
}

/// From now on, a panic is one line in the log and a failure. (An application learns of our end by SIGTERM.)
fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
        let message = panic.payload_as_str().unwrap_or("no message");
        log::error!("internal error{}: {message}", place.unwrap_or_default());
        logging::finish();
        last_resort::leave(FAILURE)
    }));
}

fn follow(mode: Mode, settings: &main_loop::Settings, waiter: &Waiter) -> u8 {
    log::info!(
        "pod-svid-helper {}: {mode} from {} to {}",
        env!("CARGO_PKG_VERSION"),
        settings.endpoint,
        settings.svid_path.display()
    );
    match main_loop::run(settings, waiter) {
        Ok(Ended::Published) => SUCCESS,
        Ok(Ended::Stopped(signal)) => {
            log::info!("stopped by {signal}");
            SUCCESS
        }
        Ok(Ended::Application(code)) => code,
        Err(error) => failed(&error),
    }
}

/// Prints the answer, or logs why there is none.
fn tell(answer: Result<impl AsRef<str>, impl std::fmt::Display>) -> u8 {
    match answer {
        Ok(text) => {
            // A slow reader of stdout may be waited for: only a signal ends that.
            last_resort::end_at_will();
            let_signals_end_us();
            print(text.as_ref()).map_or_else(|error| failed(&error), |()| SUCCESS)
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    log::error!("{error}");
    FAILURE
}

/// Prints to stdout. A reader that closes the pipe early has seen enough; a full disk is a failure.
fn print(text: &str) -> Result<(), Flaw> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(flaw!("cannot write to stdout: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use log::LevelFilter;

    use super::*;

    /// Set in the process that panics.
    const MARK: &str = "POD_SVID_HELPER_TEST_PANICS";

    #[test]
    fn a_panic_is_one_log_line_in_the_chosen_format_and_a_failure() {
        if std::env::var_os(MARK).is_some() {
            let has_time = false;
            logging::start(LevelFilter::Info, LogFormat::Json, has_time);
            explain_panics();
            panic!("the number is {}", 7);
        }
        let test = "program::tests::a_panic_is_one_log_line_in_the_chosen_format_and_a_failure";
        let this = std::env::current_exe().expect("this program");
        let output = Command::new(this).args(["--exact", test, "--nocapture"]).env(MARK, "").output();
        let output = output.expect("this program runs");
        assert_eq!(output.status.code(), Some(FAILURE.into()), "{output:?}");
        let line: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one line of JSON");
        let message = line["message"].as_str().expect("a message");
        assert!(message.starts_with("internal error at src/program.rs:"), "{message}");
        assert!(message.ends_with(": the number is 7"), "{message}");
        assert_eq!(line["level"], "error");
    }
}
