//! Options that make no sense together.

use super::row::Row;
use super::sources::Sources;
use super::table::{Options, TABLE, row};
use super::value::Mode;
use crate::material::ChangeKind;
use crate::mode::token::OutputFormat;
use crate::supervise::OnRenewal;
use crate::words::{Flaw, flaw};

/// Forgets the variables that have no meaning in this mode, value and all: they may be meant for another
/// container of the pod.
pub(super) fn forget_variables_of_other_modes(mode: Mode, sources: &mut Sources) {
    TABLE
        .iter()
        .filter(|row| !row.variable_modes.contains(&mode))
        .for_each(|row| sources.forget_variables(row));
}

/// Checks options against each other; `is_flag` says which were given as flags.
pub(super) fn check(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), Flaw> {
    let mode = options.mode;
    if let Some(row) = TABLE.iter().find(|row| is_flag(row) && !row.modes.contains(&mode)) {
        return Err(flaw!(
            "--{} has no meaning in --mode={mode}; it works in {}",
            row.name(),
            words(row.modes)
        ));
    }
    if !options.command.is_empty() && !mode.takes_command() {
        return Err(flaw!("--mode={mode} runs no command; a command after -- is for init, refresh and run"));
    }
    if options.command.is_empty() && mode == Mode::Run {
        return Err(flaw!("--mode=run needs an application after --"));
    }
    if options.command.first().is_some_and(|program| program.is_empty()) {
        return Err(flaw!("the command after -- is empty"));
    }
    if options.audience.is_none() && mode == Mode::Token {
        return Err(flaw!(
            "--mode=token needs --audience: the name by which the receiver of the token knows itself"
        ));
    }
    if options.output == OutputFormat::ExecCredential && mode == Mode::Inspect && is_flag(&row::output) {
        return Err(flaw!("--output=exec-credential has no meaning in --mode=inspect; it works in token"));
    }
    if options.on_renewal != OnRenewal::Signal && is_flag(&row::renew_signal) {
        return Err(flaw!(
            "--renew-signal has no meaning with --on-renewal={}, which sends no signal",
            options.on_renewal
        ));
    }
    let of_notifications = [&row::notify_for, &row::notify_splay];
    if let Some(row) = of_notifications.into_iter().find(|row| is_flag(row))
        && options.on_renewal == OnRenewal::Nothing
    {
        return Err(flaw!("--{} has no meaning with --on-renewal=nothing", row.name()));
    }
    check_content(options, &is_flag)?;
    check_targets(options, is_flag)
}

fn check_content(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), Flaw> {
    let pem = [&row::svid_file_name, &row::svid_key_file_name, &row::bundle_file_name];
    let bundles = [&row::merge_federated_bundles, &row::add_intermediates_to_bundle];
    let without_pem = || pem.into_iter().chain(bundles);
    let tokens = !options.jwt_svid.is_empty() || options.wit_svid_file_name.is_some();
    let bundle_files = [
        (&row::jwt_bundle_file_name, &options.jwt_bundle_file_name),
        (&row::wit_bundle_file_name, &options.wit_bundle_file_name),
    ];
    let jwks = bundle_files.into_iter().find(|(_, name)| name.is_some()).map(|(row, _)| row);
    let requires = |row: &Row, other: &str| Err(flaw!("--{} has no meaning without {other}", row.name()));
    match (&options.wit_svid_file_name, &options.wit_key_file_name) {
        (Some(_), None) => return requires(&row::wit_svid_file_name, "--wit-key-file-name"),
        (None, Some(_)) => return requires(&row::wit_key_file_name, "--wit-svid-file-name"),
        (None, None) if is_flag(&row::wit_key_format) => {
            return requires(&row::wit_key_format, "--wit-key-file-name");
        }
        _ => {}
    }
    if !options.x509 {
        if !tokens && jwks.is_none() {
            return Err(flaw!(
                "--x509=false leaves nothing to do; add --jwt-svid, --wit-svid-file-name, --jwt-bundle-file-name or --wit-bundle-file-name"
            ));
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
        ];
        let keyless = options.wit_key_file_name.is_none().then_some(&row::key_file_mode);
        let nothing_public = options.wit_svid_file_name.is_none() && jwks.is_none();
        let modes = keyless.into_iter().chain(nothing_public.then_some(&row::cert_file_mode));
        let others = others.into_iter().chain(modes);
        if let Some(row) = without_pem().chain(others).find(|row| is_flag(row)) {
            return requires(row, "X.509 files (--x509=false)");
        }
        let knows_trust_domain = options.pod_spiffe_id.is_some() || tokens;
        if let Some(row) = jwks.filter(|_| !knows_trust_domain && options.mode != Mode::Check) {
            return requires(row, "--pod-spiffe-id, which names the trust domain");
        }
    } else if !options.layout.has_pem()
        && let Some(row) = without_pem().find(|row| is_flag(row))
    {
        return requires(row, "--layout=pem");
    }
    let federated_files = options.x509 && options.layout.has_pem() || jwks.is_some();
    if is_flag(&row::include_federated_bundles) && !federated_files {
        return requires(
            &row::include_federated_bundles,
            "--layout=pem, --jwt-bundle-file-name or --wit-bundle-file-name",
        );
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
    let has_files = |kind| match kind {
        ChangeKind::Svid | ChangeKind::Bundle => options.x509,
        ChangeKind::Token => !options.jwt_svid.is_empty(),
        ChangeKind::Keys => options.jwt_bundle_file_name.is_some() || options.wit_bundle_file_name.is_some(),
        ChangeKind::Wit => options.wit_svid_file_name.is_some(),
        ChangeKind::Crl => options.crl_file_name.is_some(),
    };
    if let Some(kinds) = options.notify_for.as_ref().filter(|_| is_flag(&row::notify_for))
        && !kinds.clone().into_iter().any(has_files)
    {
        return Err(flaw!(
            "--notify-for={kinds} has no meaning without files of such a kind (--jwt-svid, ...)"
        ));
    }
    Ok(())
}

fn check_targets(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), Flaw> {
    let has_process = options.pid_file.is_some() || options.signal_process.is_some();
    let has_target = has_process || !options.command.is_empty();
    // A hook is no target of a signal.
    let takes_signals = has_process || options.mode == Mode::Run;
    if is_flag(&row::renew_signal) && !takes_signals {
        return Err(flaw!(
            "--renew-signal has no meaning without a target: --pid-file, --signal-process or the application of --mode=run"
        ));
    }
    let of_notifications = [&row::notify_for, &row::notify_splay];
    match of_notifications.into_iter().find(|row| is_flag(row)) {
        Some(row) if !has_target => Err(flaw!(
            "--{} has no meaning without a target: --pid-file, --signal-process or a command after --",
            row.name()
        )),
        _ => Ok(()),
    }
}

fn words(modes: &[Mode]) -> String {
    let words: Vec<_> = modes.iter().map(Mode::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
