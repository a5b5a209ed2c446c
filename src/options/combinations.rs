//! What no single option's grammar can say: options that make no sense together.

use thiserror::Error;

use super::table::{Options, Row, TABLE, row};
use super::value::Mode;
use crate::store::layout::{CREDENTIAL_BUNDLE, FEDERATED_SUFFIX, TRUST_BUNDLE_SUFFIX};

/// Checks options against each other; `is_flag` tells which were given as flags. What a variable
/// sets may be meant for another container of the pod, and is let be where it does no harm.
pub(super) fn check(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), BadCombination> {
    let mode = options.mode;
    if let Some(row) = TABLE.iter().find(|row| is_flag(row) && !row.modes.contains(&mode)) {
        return Err(BadCombination::OtherMode { row, mode });
    }
    if !options.command.is_empty() && !matches!(mode, Mode::Init | Mode::Refresh) {
        return Err(BadCombination::CommandInMode(mode));
    }
    // The others are about what is fetched and written.
    if mode == Mode::Inspect {
        return Ok(());
    }
    check_content(options, &is_flag)?;
    check_names(options)?;
    check_targets(options, is_flag)
}

fn check_content(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), BadCombination> {
    let pem = [&row::svid_file_name, &row::svid_key_file_name, &row::bundle_file_name];
    let bundles = [&row::merge_federated_bundles, &row::add_intermediates_to_bundle];
    let without_pem = || pem.into_iter().chain(bundles);
    let jwt = !options.jwt_svid.is_empty() || options.jwt_bundle_file_name.is_some();
    let senseless = |row: &Row, without: &'static str| {
        Err(BadCombination::Without { option: format!("--{}", row.name()), without })
    };
    if !options.x509 {
        if !jwt {
            return Err(BadCombination::Nothing);
        }
        let others = [
            &row::layout,
            &row::combined_file_name,
            &row::crl_file_name,
            &row::omit_expired,
            &row::key_file_mode,
        ];
        if let Some(row) = without_pem().chain(others).find(|row| is_flag(row)) {
            return senseless(row, "X.509 files (--x509=false)");
        }
        let tells_trust_domain = options.pod_spiffe_id.is_some() || !options.jwt_svid.is_empty();
        if options.jwt_bundle_file_name.is_some() && !tells_trust_domain && options.mode != Mode::Check {
            return senseless(&row::jwt_bundle_file_name, "--pod-spiffe-id, which tells the trust domain");
        }
    } else if !options.layout.pem
        && let Some(row) = without_pem().find(|row| is_flag(row))
    {
        return senseless(row, "--layout=pem");
    }
    let federated_files = options.x509 && options.layout.pem || options.jwt_bundle_file_name.is_some();
    if is_flag(&row::include_federated_bundles) && !federated_files {
        return senseless(&row::include_federated_bundles, "--layout=pem or --jwt-bundle-file-name");
    }
    if is_flag(&row::jwt_file_mode) && options.jwt_svid.is_empty() {
        return senseless(&row::jwt_file_mode, "--jwt-svid");
    }
    Ok(())
}

/// Each file needs a name of its own, and one that no federated trust domain's file can have.
fn check_names(options: &Options) -> Result<(), BadCombination> {
    let mut names = Vec::new();
    let mut suffixes = Vec::new();
    if options.x509 {
        if options.layout.pem {
            names.push((row::svid_file_name.name(), options.svid_file_name.as_str()));
            names.push((row::svid_key_file_name.name(), options.svid_key_file_name.as_str()));
            names.push((row::bundle_file_name.name(), options.bundle_file_name.as_str()));
            if options.include_federated_bundles {
                suffixes.push((row::include_federated_bundles.name(), FEDERATED_SUFFIX.to_owned()));
            }
        }
        if options.layout.spiffe {
            names.push((row::layout.name(), CREDENTIAL_BUNDLE));
            suffixes.push((row::layout.name(), TRUST_BUNDLE_SUFFIX.to_owned()));
        }
        names.extend(
            options.combined_file_name.iter().map(|name| (row::combined_file_name.name(), name.as_str())),
        );
        names.extend(options.crl_file_name.iter().map(|name| (row::crl_file_name.name(), name.as_str())));
    }
    names.extend(options.jwt_svid.iter().map(|file| (row::jwt_svid.name(), file.name.as_str())));
    if let Some(name) = &options.jwt_bundle_file_name {
        names.push((row::jwt_bundle_file_name.name(), name.as_str()));
        if options.include_federated_bundles {
            suffixes.push((row::jwt_bundle_file_name.name(), format!(".{name}")));
        }
    }
    for (index, (option, suffix)) in suffixes.iter().enumerate() {
        let others = suffixes.iter().enumerate().filter(|(other, _)| *other != index);
        if let Some((_, (other, longer))) =
            others.into_iter().find(|(_, (_, longer))| longer.ends_with(suffix))
        {
            let options = [format!("--{other}"), format!("--{option}")];
            return Err(BadCombination::Suffixes { options, longer: longer.clone(), suffix: suffix.clone() });
        }
    }
    for (index, (option, name)) in names.iter().enumerate() {
        if let Some((other, _)) = names[..index].iter().find(|(_, earlier)| earlier == name) {
            let options = [format!("--{other}"), format!("--{option}")];
            return Err(BadCombination::SameName { options, name: name.to_string() });
        }
        if let Some((other, suffix)) = suffixes.iter().find(|(_, suffix)| name.ends_with(suffix.as_str())) {
            let (option, other) = (format!("--{option}"), format!("--{other}"));
            return Err(BadCombination::Suffix {
                option,
                name: name.to_string(),
                other,
                suffix: suffix.clone(),
            });
        }
    }
    Ok(())
}

fn check_targets(options: &Options, is_flag: impl Fn(&Row) -> bool) -> Result<(), BadCombination> {
    let target =
        options.pid_file.is_some() || options.signal_process.is_some() || !options.command.is_empty();
    // A variable may be meant for the other container of the pod, which has the target.
    let in_vain = [
        (&row::renew_signal, options.renew_signal.is_some(), Mode::Refresh),
        (&row::init_notify, options.init_notify, Mode::Init),
    ];
    let counts = |row: &Row, mode| is_flag(row) || options.mode == mode;
    match in_vain.into_iter().find(|(row, is_set, mode)| *is_set && !target && counts(row, *mode)) {
        Some((row, ..)) => Err(BadCombination::NoTarget { option: format!("--{}", row.name()) }),
        None => Ok(()),
    }
}

/// Options that make no sense together; one line says why.
#[allow(missing_docs, reason = "the messages say what the variants mean")]
#[derive(Debug, Error)]
pub enum BadCombination {
    #[error("--{} has no meaning in --mode={mode}; it is for {}", .row.name(), words(.row.modes))]
    OtherMode { row: &'static Row, mode: Mode },
    #[error("--mode={0} runs no command; a command after -- is for init and refresh")]
    CommandInMode(Mode),
    #[error("--x509=false leaves nothing to do; add --jwt-svid or --jwt-bundle-file-name")]
    Nothing,
    #[error("{option} has no meaning without {without}")]
    Without { option: String, without: &'static str },
    #[error("{} and {} both name {name:?}; each file needs a name of its own", .options[0], .options[1])]
    SameName { options: [String; 2], name: String },
    #[error(
        "{option} names {name:?}, but with {other}, names that end with {suffix:?} belong to trust domains"
    )]
    Suffix { option: String, name: String, other: String, suffix: String },
    #[error("{} and {} can name the same file: {longer:?} ends with {suffix:?}", .options[0], .options[1])]
    Suffixes { options: [String; 2], longer: String, suffix: String },
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
