//! The plan that the options come to: the task, and the settings of each module.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use log::LevelFilter;
use thiserror::Error;
use zeroize::Zeroizing;

use super::table::Options;
use super::value::Mode;
use crate::identity::selection::Selection;
use crate::layout::pkcs12::{Password, PasswordError};
use crate::layout::{JwtBundleLayout, JwtSvidLayout, Layout, PemLayout, X509Layout};
use crate::logging::LogFormat;
use crate::mode::{check, follow, inspect};
use crate::notify::{self, HookRetry, Target};
use crate::process::child::Program;
use crate::{regular_file, supervise};

/// What is read of a password file, in bytes.
const LONGEST_PASSWORD_FILE: u64 = 4096;

/// The options, resolved.
pub(crate) struct Plan {
    pub(crate) log_level: LevelFilter,
    pub(crate) log_format: LogFormat,
    /// Options that may be a mistake, for the log.
    pub(crate) warnings: Vec<String>,
    pub(crate) task: Task,
}

/// What to do.
#[allow(clippy::large_enum_variant, reason = "one value exists, in a box")]
pub(crate) enum Task {
    /// `init`, `refresh` and `run`.
    Follow(follow::Settings),
    Check(check::Settings),
    Inspect(inspect::Settings),
}

impl Plan {
    /// From options that [`check`](super::combinations::check) has accepted.
    ///
    /// # Errors
    ///
    /// The password of the keystores cannot be read.
    pub(super) fn new(options: Options) -> Result<Self, PasswordFileError> {
        let layout = layout(&options)?;
        let task = match options.mode {
            Mode::Init | Mode::Refresh | Mode::Run => Task::Follow(follow(&options, layout)),
            Mode::Check => Task::Check(check::Settings {
                svid_path: options.svid_path.clone(),
                layout,
                id: options.pod_spiffe_id.clone(),
                min_ttl: options.min_ttl.map(|span| span.0),
            }),
            Mode::Inspect => Task::Inspect(inspect::Settings {
                endpoint: options.workload_api_socket.clone(),
                timeout: options.init_timeout.0,
                output: options.output,
            }),
        };
        Ok(Self {
            log_level: options.log_level.0,
            log_format: options.log_format,
            warnings: warnings(&options),
            task,
        })
    }
}

fn warnings(options: &Options) -> Vec<String> {
    let mut warnings = Vec::new();
    if options.mode == Mode::Inspect {
        return warnings;
    }
    if options.x509 && options.key_file_mode.is_world_readable() {
        warnings
            .push(format!("--key-file-mode={} lets every user read the private key", options.key_file_mode));
    }
    if !options.jwt_svid.is_empty() && options.jwt_file_mode.is_world_readable() {
        warnings
            .push(format!("--jwt-file-mode={} lets every user read the JWT-SVIDs", options.jwt_file_mode));
    }
    warnings
}

fn follow(options: &Options, layout: Layout) -> follow::Settings {
    let program = Program::from_words(&options.command);
    let signal = options.renew_signal.unwrap_or_default();
    let (end, hook) = match (options.mode, program) {
        (Mode::Run, Some(program)) => {
            let application = supervise::Settings { program, on_renewal: options.on_renewal, signal };
            (follow::End::ApplicationEnded(application), None)
        }
        (Mode::Init, hook) => (follow::End::Published { within: options.init_timeout.0 }, hook),
        (_, hook) => (follow::End::Stopped, hook),
    };
    let retry = if options.mode == Mode::Init { HookRetry::Never } else { HookRetry::UntilSuccess };
    // The application of run is notified itself.
    let signals_others = options.mode != Mode::Run;
    let by_file = options.pid_file.clone().filter(|_| signals_others).map(Target::pid_file);
    let by_name = options.signal_process.clone().filter(|_| signals_others).map(Target::Name);
    follow::Settings {
        end,
        endpoint: options.workload_api_socket.clone(),
        selection: Selection { id: options.pod_spiffe_id.clone(), hint: options.hint.clone() },
        layout,
        svid_path: options.svid_path.clone(),
        owner: options.file_owner,
        on_revoked: options.on_revoked,
        notify: notify::Settings {
            targets: by_file.into_iter().chain(by_name).collect(),
            signal,
            hook,
            retry,
        },
        http_address: options.http_address.filter(|_| options.mode != Mode::Init),
    }
}

fn layout(options: &Options) -> Result<Layout, PasswordFileError> {
    let jwt_svid = |file: &_| JwtSvidLayout { file: Clone::clone(file), mode: options.jwt_file_mode };
    Ok(Layout {
        x509: if options.x509 { Some(x509_layout(options)?) } else { None },
        jwt_svids: options.jwt_svid.iter().map(jwt_svid).collect(),
        jwt_bundles: options.jwt_bundle_file_name.clone().map(|name| JwtBundleLayout {
            name,
            federated_files: options.include_federated_bundles,
            mode: options.cert_file_mode,
        }),
    })
}

fn x509_layout(options: &Options) -> Result<X509Layout, PasswordFileError> {
    Ok(X509Layout {
        pem: options.layout.has_pem().then(|| PemLayout {
            certificate: options.svid_file_name.clone(),
            key: options.svid_key_file_name.clone(),
            bundle: options.bundle_file_name.clone(),
            intermediates_in_bundle: options.add_intermediates_to_bundle,
            federated_in_bundle: options.merge_federated_bundles,
            federated_files: options.include_federated_bundles,
        }),
        spiffe: options.layout.has_spiffe(),
        combined: options.combined_file_name.clone(),
        keystore: options.keystore_file_name.clone(),
        truststore: options.truststore_file_name.clone(),
        password: password(options)?,
        omit_expired: options.omit_expired,
        certificate_mode: options.cert_file_mode,
        key_mode: options.key_file_mode,
    })
}

/// The password of the keystores, if there are any.
fn password(options: &Options) -> Result<Password, PasswordFileError> {
    let has_keystore = options.keystore_file_name.is_some() || options.truststore_file_name.is_some();
    let Some(path) = options.keystore_password_file.as_ref().filter(|_| has_keystore) else {
        return Ok(Password::default());
    };
    let error = |cause: String| PasswordFileError { path: path.clone(), cause };
    let text = read_password_file(path).map_err(|cause| error(cause.to_string()))?;
    text.parse().map_err(|cause: PasswordError| error(cause.to_string()))
}

fn read_password_file(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = regular_file::open(path)?.ok_or_else(|| io::Error::other("it is not a regular file"))?;
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST_PASSWORD_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The password of the keystores cannot be read.
#[derive(Debug, Error)]
#[error("cannot use the password file {} (--keystore-password-file): {cause}", .path.display())]
pub(crate) struct PasswordFileError {
    path: PathBuf,
    cause: String,
}
