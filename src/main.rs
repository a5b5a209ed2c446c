//! The program: options in, one mode, an exit code out.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use pod_svid_helper::mode::{check, init, inspect, refresh};
use pod_svid_helper::options::value::Mode;
use pod_svid_helper::options::{self, Options, Request};
use pod_svid_helper::wait::Waiter;
use pod_svid_helper::{hygiene, logging};

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match options::parse(arguments, |name| std::env::var_os(name)) {
        Ok(Request::Help) => print(&options::help()),
        Ok(Request::Version) => print(concat!("pod-svid-helper ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Run(options)) => run(&options),
        Err(error) => {
            eprintln!("pod-svid-helper: {error}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    // First of all: a signal that comes before it is lost to process 1, and deadly to any other.
    let waiter = Waiter::new();
    logging::start(options.log_level.0, options.log_format);
    let waiter = match waiter {
        Ok(waiter) => waiter,
        Err(error) => {
            log::error!("cannot wait for signals: {error}");
            return ExitCode::from(FAILED);
        }
    };
    hygiene::forbid_core_dumps(!options.command.is_empty());
    if options.x509 && options.mode != Mode::Inspect && options.key_file_mode.is_world_readable() {
        log::warn!("--key-file-mode={} lets every user read the private key", options.key_file_mode);
    }
    if matches!(options.mode, Mode::Init | Mode::Refresh) {
        log::info!(
            "pod-svid-helper {}: {} from {} to {}",
            env!("CARGO_PKG_VERSION"),
            options.mode,
            options.workload_api_socket,
            options.svid_path.display()
        );
    }
    match options.mode {
        Mode::Init => init::run(options, &waiter).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS),
        Mode::Refresh => {
            let signal = refresh::run(options, &waiter);
            log::info!("stopped by {signal}");
            ExitCode::SUCCESS
        }
        Mode::Check => check::run(options).map_or_else(|error| failed(&error), |line| print(&(line + "\n"))),
        Mode::Inspect => {
            inspect::run(options, &waiter).map_or_else(|error| failed(&error), |text| print(&text))
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    log::error!("{error}");
    ExitCode::from(FAILED)
}

/// A reader that closes the pipe early has seen enough.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
