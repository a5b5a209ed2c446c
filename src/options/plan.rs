//! The plan that the options come to: the task, and the settings of each module.

use std::rc::Rc;

use log::LevelFilter;
use nix::sys::signal::Signal;

use super::table::Options;
use super::value::Mode;
use crate::identity::selection::Selection;
use crate::identity::token::Profile;
use crate::layout::pkcs12::KeystorePassword;
use crate::logging::LogFormat;
use crate::material::{
    ChangeKind, ChangeKinds, CrlFile, JwksPart, JwtSvidPart, Part, PemFiles, WitSvidPart, X509Part,
};
use crate::mode::token::{self, OutputFormat};
use crate::mode::{check, inspect, main_loop};
use crate::notify::{self, Policy, Target};
use crate::process::child::Program;
use crate::process::environment::Variables;
use crate::supervise::{self, OnRenewal};
use crate::words::Flaw;

/// The options, resolved.
pub(crate) struct Plan {
    pub(crate) mode: Mode,
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
    Follow(main_loop::Settings),
    Check(check::Settings),
    Inspect(inspect::Settings),
    Token(token::Settings),
}

impl Plan {
    /// From options that [`check`](super::combinations::check) has accepted, and warnings about their sources.
    ///
    /// # Errors
    ///
    /// The password of the keystores cannot be read.
    pub(super) fn new(options: Options, mut warnings: Vec<String>) -> Result<Self, Flaw> {
        let parts = parts(&options)?;
        let task = match options.mode {
            Mode::Init | Mode::Refresh | Mode::Run => {
                warn_of_modes(&options, &mut warnings);
                Task::Follow(follow(&options, parts))
            }
            Mode::Check => Task::Check(check::Settings {
                svid_path: options.svid_path.clone(),
                parts,
                id: options.pod_spiffe_id.clone(),
                min_ttl: options.min_ttl,
            }),
            Mode::Inspect => Task::Inspect(inspect::Settings {
                endpoint: options.workload_api_socket.clone(),
                timeout: options.init_timeout,
                audiences: options.jwt_svid.iter().map(|file| file.audience.clone()).collect(),
                as_json: options.output == OutputFormat::Json,
            }),
            Mode::Token => Task::Token(token::Settings {
                endpoint: options.workload_api_socket.clone(),
                timeout: options.init_timeout,
                selection: selection(&options),
                audience: options.audience.clone().unwrap_or_default().0,
                output: options.output,
            }),
        };
        // kubectl shows what the helper that it asks for a token prints on stderr.
        let quiet = options.mode == Mode::Token;
        let default = if quiet { LevelFilter::Warn } else { LevelFilter::Debug };
        let log_level = options.log_level.unwrap_or(default);
        Ok(Self { mode: options.mode, log_level, log_format: options.log_format, warnings, task })
    }
}

/// Warns of keys and tokens that every user can read.
fn warn_of_modes(options: &Options, warnings: &mut Vec<String>) {
    if (options.x509 || options.wit_key_file_name.is_some()) && options.key_file_mode.is_world_readable() {
        warnings
            .push(format!("--key-file-mode={} lets every user read the private key", options.key_file_mode));
    }
    if !options.jwt_svid.is_empty() && options.jwt_file_mode.is_world_readable() {
        warnings
            .push(format!("--jwt-file-mode={} lets every user read the JWT-SVIDs", options.jwt_file_mode));
    }
}

fn follow(options: &Options, parts: Vec<Rc<dyn Part>>) -> main_loop::Settings {
    let program = Program::from_words(&options.command, credential_folder(options));
    let policy = policy(options, &parts);
    let signal = options.renew_signal.unwrap_or(Signal::SIGHUP.into());
    let (end, hook) = match (options.mode, program) {
        (Mode::Run, Some(program)) => {
            let application = supervise::Settings {
                program,
                on_renewal: options.on_renewal,
                signal,
                policy: policy.clone(),
            };
            (main_loop::End::ApplicationEnded(application), None)
        }
        (Mode::Init, hook) => (main_loop::End::Published { within: options.init_timeout }, hook),
        (_, hook) => (main_loop::End::Stopped, hook),
    };
    let by_file = options.pid_file.clone().map(Target::pid_file);
    let by_name = options.signal_process.clone().map(Target::Name);
    main_loop::Settings {
        end,
        endpoint: options.workload_api_socket.clone(),
        selection: selection(options),
        parts,
        svid_path: options.svid_path.clone(),
        owner: options.file_owner,
        on_revoked: options.on_revoked,
        notify: notify::Settings {
            targets: by_file.into_iter().chain(by_name).collect(),
            signal,
            hook,
            // init fails with its hook.
            retries: options.mode != Mode::Init,
            policy,
        },
        http_address: options.http_address,
    }
}

/// Which changes notify, and how late.
fn policy(options: &Options, parts: &[Rc<dyn Part>]) -> Policy {
    let all: ChangeKinds = parts.iter().flat_map(|part| part.kinds()).collect();
    // An application that serves with its SVID reads tokens and keys from their files.
    let restarts = options.mode == Mode::Run && options.on_renewal == OnRenewal::Restart;
    let essential = || [ChangeKind::Svid, ChangeKind::Bundle, ChangeKind::Wit].into_iter().collect();
    let chosen = options.notify_for.clone().or_else(|| restarts.then(essential));
    let kinds = chosen.map(|chosen| chosen.common(&all)).filter(|kinds| !kinds.is_empty()).unwrap_or(all);
    Policy::new(kinds, options.notify_splay.unwrap_or_default())
}

/// Where the SPIFFE layout is, for the programs that we start (SPIFFE Filesystem Delivery standard, a draft,
/// section 3.1).
fn credential_folder(options: &Options) -> Variables {
    let is_there = options.x509 && options.layout.has_spiffe();
    let folder =
        is_there.then(|| std::path::absolute(&options.svid_path).unwrap_or(options.svid_path.clone()));
    folder.into_iter().map(|folder| ("SPIFFE_CREDENTIAL_FOLDER", Some(folder.into()))).collect()
}

fn selection(options: &Options) -> Selection {
    Selection { id: options.pod_spiffe_id.clone(), hint: options.hint.clone() }
}

/// The kinds of material that are wanted, each in a row. The first decides the identity, if it is X.509.
fn parts(options: &Options) -> Result<Vec<Rc<dyn Part>>, Flaw> {
    let mut parts: Vec<Rc<dyn Part>> = Vec::new();
    if options.x509 {
        parts.push(Rc::new(x509(options)?));
    }
    for file in &options.jwt_svid {
        parts.push(Rc::new(JwtSvidPart { file: file.clone(), mode: options.jwt_file_mode }));
    }
    if let (Some(token), Some(key)) = (options.wit_svid_file_name.clone(), options.wit_key_file_name.clone())
    {
        parts.push(Rc::new(WitSvidPart {
            token,
            key,
            key_format: options.wit_key_format,
            token_mode: options.cert_file_mode,
            key_mode: options.key_file_mode,
        }));
    }
    for (profile, name) in
        [(Profile::Jwt, &options.jwt_bundle_file_name), (Profile::Wit, &options.wit_bundle_file_name)]
    {
        let Some(name) = name.clone() else { continue };
        let (federated_files, mode) = (options.include_federated_bundles, options.cert_file_mode);
        parts.push(Rc::new(JwksPart { profile, name, federated_files, mode }));
    }
    Ok(parts)
}

fn x509(options: &Options) -> Result<X509Part, Flaw> {
    Ok(X509Part {
        pem: options.layout.has_pem().then(|| PemFiles {
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
        alias: options.keystore_alias.clone(),
        truststore: options.truststore_file_name.clone(),
        crls: options
            .crl_file_name
            .clone()
            .map(|name| CrlFile { path: options.svid_path.join(name.as_str()), name }),
        bundle_map: options.bundle_map_file_name.clone(),
        password: password(options)?,
        omit_expired: options.omit_expired,
        certificate_mode: options.cert_file_mode,
        key_mode: options.key_file_mode,
    })
}

/// The password of the keystores, if there are any.
fn password(options: &Options) -> Result<KeystorePassword, Flaw> {
    let has_keystore = options.keystore_file_name.is_some() || options.truststore_file_name.is_some();
    let file = options.keystore_password_file.as_ref().filter(|_| has_keystore);
    file.map_or(Ok(KeystorePassword::default()), |file| KeystorePassword::in_file(file))
}
