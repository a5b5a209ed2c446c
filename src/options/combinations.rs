//! Options that make no sense together.

use thiserror::Error;

use super::row::Row;
use super::sources::Sources;
use super::table::{Options, TABLE, row};
use super::value::Mode;
use crate::layout::ClashError;
use crate::supervise::OnRenewal;

/// Forgets the variables that have no meaning in this mode, value and all: they may be meant for another
/// container of the pod.
pub(super) fn forget_variables_of_other_modes(mode: Mode, sources: &mut Sources) {
    TABLE
        .iter()
        .filter(|row| !row.variable_modes.contains(&mode))
        .for_each(|row| sources.forget_variables(row));
}

/// Checks options against each other; `is_flag` says which were given as flags.
pub(super) fn check(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), CombinationError> {
    let mode = options.mode;
    if let Some(row) = TABLE.iter().find(|row| is_flag(row) && !row.modes.contains(&mode)) {
        return Err(CombinationError::OtherMode { row, mode });
    }
    if !options.command.is_empty() && !matches!(mode, Mode::Init | Mode::Refresh | Mode::Run) {
        return Err(CombinationError::CommandInMode(mode));
    }
    if options.command.is_empty() && mode == Mode::Run {
        return Err(CombinationError::NoApplication);
    }
    if options.command.first().is_some_and(|program| program.is_empty()) {
        return Err(CombinationError::EmptyCommand);
    }
    if options.on_renewal != OnRenewal::Signal && is_flag(&row::renew_signal) {
        return Err(CombinationError::NoSignal(options.on_renewal));
    }
    check_content(options, &is_flag)?;
    check_targets(options, is_flag)
}

fn check_content(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), CombinationError> {
    let pem = [&row::svid_file_name, &row::svid_key_file_name, &row::bundle_file_name];
    let bundles = [&row::merge_federated_bundles, &row::add_intermediates_to_bundle];
    let without_pem = || pem.into_iter().chain(bundles);
    let jwt = !options.jwt_svid.is_empty() || options.jwt_bundle_file_name.is_some();
    let requires = |row: &Row, without: &'static str| {
        Err(CombinationError::Without { option: format!("--{}", row.name()), without })
    };
    if !options.x509 {
        if !jwt {
            return Err(CombinationError::Nothing);
        }
        let others = [
            &row::layout,
            &row::combined_file_name,
            &row::keystore_file_name,
            &row::truststore_file_name,
            &row::keystore_alias,
            &row::bundle_map_file_name,
            &row::crl_file_name,
            &row::omit_expired,
            &row::key_file_mode,
        ];
        if let Some(row) = without_pem().chain(others).find(|row| is_flag(row)) {
            return requires(row, "X.509 files (--x509=false)");
        }
        let knows_trust_domain = options.pod_spiffe_id.is_some() || !options.jwt_svid.is_empty();
        if options.jwt_bundle_file_name.is_some() && !knows_trust_domain && options.mode != Mode::Check {
            return requires(&row::jwt_bundle_file_name, "--pod-spiffe-id, which names the trust domain");
        }
    } else if !options.layout.has_pem()
        && let Some(row) = without_pem().find(|row| is_flag(row))
    {
        return requires(row, "--layout=pem");
    }
    let federated_files = options.x509 && options.layout.has_pem() || options.jwt_bundle_file_name.is_some();
    if is_flag(&row::include_federated_bundles) && !federated_files {
        return requires(&row::include_federated_bundles, "--layout=pem or --jwt-bundle-file-name");
    }
    let has_keystore = options.keystore_file_name.is_some() || options.truststore_file_name.is_some();
    if is_flag(&row::keystore_password_file) && !has_keystore {
        return requires(&row::keystore_password_file, "--keystore-file-name or --truststore-file-name");
    }
    if is_flag(&row::keystore_alias) && options.keystore_file_name.is_none() {
        return requires(&row::keystore_alias, "--keystore-file-name");
    }
    if is_flag(&row::jwt_file_mode) && options.jwt_svid.is_empty() {
        return requires(&row::jwt_file_mode, "--jwt-svid");
    }
    Ok(())
}

fn check_targets(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), CombinationError> {
    let target =
        options.pid_file.is_some() || options.signal_process.is_some() || !options.command.is_empty();
    // A variable may be meant for the other container of the pod, which has the target.
    let counts = is_flag(&row::renew_signal) || options.mode == Mode::Refresh;
    if options.renew_signal.is_some() && !target && counts {
        return Err(CombinationError::NoTarget { option: format!("--{}", row::renew_signal.name()) });
    }
    Ok(())
}

/// Options that make no sense together; one line says why.
#[derive(Debug, Error)]
pub(crate) enum CombinationError {
    #[error("--{} has no meaning in --mode={mode}; it works in {}", .row.name(), words(.row.modes))]
    OtherMode { row: &'static Row, mode: Mode },
    #[error("--mode={0} runs no command; a command after -- is for init, refresh and run")]
    CommandInMode(Mode),
    #[error("--mode=run needs an application after --")]
    NoApplication,
    #[error("the command after -- is empty")]
    EmptyCommand,
    #[error("--renew-signal has no meaning with --on-renewal={0}, which sends no signal")]
    NoSignal(OnRenewal),
    #[error("--x509=false leaves nothing to do; add --jwt-svid or --jwt-bundle-file-name")]
    Nothing,
    #[error("{option} has no meaning without {without}")]
    Without { option: String, without: &'static str },
    #[error(transparent)]
    Names(#[from] ClashError),
    #[error("{option} has no meaning without a target: --pid-file, --signal-process or a command after --")]
    NoTarget { option: String },
}

fn words(modes: &[Mode]) -> String {
    let words: Vec<_> = modes.iter().map(Mode::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
