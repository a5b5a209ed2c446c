//! Command line and environment.

use crate::pod::{Helper, Pod, offer};

fn refused(arguments: &[&str], parts: &[&str]) {
    Helper::new().arguments(arguments).finish().refused_with(parts);
}

macro_rules! refuses {
    ($($name:ident: $arguments:expr => $parts:expr;)+) => {$(
        #[test]
        fn $name() {
            refused(&$arguments, &$parts);
        }
    )+};
}

refuses! {
    an_unknown_option_is_refused: ["--nonsense=1"] => ["\"--nonsense\"", "--help"];
    a_mistyped_option_is_refused_with_the_nearest_name: ["--svid-pth=/x"] => ["\"--svid-pth\"", "did you mean --svid-path?"];
    a_short_option_is_refused: ["-m", "init"] => ["\"-m\""];
    a_stray_argument_is_refused: ["refresh"] => ["unexpected argument", "\"refresh\""];
    an_argument_behind_two_dashes_is_refused: ["--", "refresh"] => ["unexpected argument", "\"refresh\""];
    a_missing_value_is_refused: ["--mode"] => ["--mode needs a value", "init or refresh"];
    a_value_for_help_is_refused: ["--help=all"] => ["help"];
    a_mode_that_does_not_exist_is_refused: ["--mode=once"] => ["--mode takes init or refresh", "\"once\""];
    an_empty_mode_is_refused: ["--mode="] => ["--mode takes init or refresh", "\"\""];
    a_spiffe_id_with_another_scheme_is_refused: ["--pod-spiffe-id=https://example.org/a"] => ["--pod-spiffe-id takes", "\"https://example.org/a\"", "spiffe://"];
    a_spiffe_id_with_an_upper_case_trust_domain_is_refused: ["--pod-spiffe-id=spiffe://Example.org/a"] => ["--pod-spiffe-id takes", "trust domain"];
    a_spiffe_id_with_a_closing_slash_is_refused: ["--pod-spiffe-id=spiffe://example.org/a/"] => ["--pod-spiffe-id takes", "slash"];
    an_empty_spiffe_id_is_refused: ["--pod-spiffe-id="] => ["--pod-spiffe-id takes", "\"\""];
    an_empty_directory_is_refused: ["--svid-path="] => ["--svid-path takes"];
    a_log_level_that_does_not_exist_is_refused: ["--log-level=loud"] => ["--log-level takes off, error, warn, info, debug or trace", "\"loud\""];
    a_log_format_that_does_not_exist_is_refused: ["--log-format=xml"] => ["--log-format takes text or json", "\"xml\""];
    a_timeout_without_unit_is_refused: ["--init-timeout=30"] => ["--init-timeout takes a number with ms, s, m or h", "\"30\""];
    a_timeout_of_nothing_is_refused: ["--init-timeout=0s"] => ["--init-timeout takes", "\"0s\""];
    a_negative_timeout_is_refused: ["--init-timeout=-5s"] => ["--init-timeout takes", "\"-5s\""];
    a_file_name_with_a_slash_is_refused: ["--svid-file-name=a/b"] => ["--svid-file-name takes", "slash"];
    a_file_name_with_a_leading_dot_is_refused: ["--svid-key-file-name=..data"] => ["--svid-key-file-name takes", "leading dot"];
    an_empty_file_name_is_refused: ["--bundle-file-name="] => ["--bundle-file-name takes"];
    one_name_for_two_files_is_refused: ["--bundle-file-name=svid.pem"] => ["--svid-file-name", "--bundle-file-name", "\"svid.pem\""];
    a_mode_that_is_not_octal_is_refused: ["--key-file-mode=0480"] => ["--key-file-mode takes", "octal", "\"0480\""];
    a_mode_beyond_the_permission_bits_is_refused: ["--cert-file-mode=4755"] => ["--cert-file-mode takes", "\"4755\""];
    a_mode_in_words_is_refused: ["--cert-file-mode=u=rw"] => ["--cert-file-mode takes", "\"u=rw\""];
    an_action_on_revocation_that_does_not_exist_is_refused: ["--on-revoked=panic"] => ["--on-revoked takes keep or remove", "\"panic\""];
}

#[test]
fn a_value_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let argument = std::ffi::OsStr::from_bytes(b"--svid-path=/\xff");
    Helper::new().argument(argument).finish().refused_with(&["--svid-path takes", "UTF-8"]);
}

#[test]
fn a_bad_variable_is_refused_by_its_own_name() {
    Helper::new()
        .variable("HELPER_MODE", "once")
        .finish()
        .refused_with(&["HELPER_MODE takes init or refresh", "\"once\""]);
}

#[test]
fn a_bad_endpoint_variable_is_refused_by_its_own_name() {
    let helper = Helper::new().variable("SPIFFE_ENDPOINT_SOCKET", "http://localhost");
    helper.finish().refused_with(&["SPIFFE_ENDPOINT_SOCKET takes", "\"http://localhost\""]);
}

#[test]
fn a_flag_wins_over_a_variable() {
    let helper = Helper::new().variable("HELPER_MODE", "nonsense").argument("--mode=worse");
    helper.finish().refused_with(&["--mode takes", "\"worse\""]);
}

#[test]
fn the_last_of_two_flags_wins() {
    refused(&["--mode=worse", "--mode=worst"], &["\"worst\""]);
}

#[test]
fn every_option_is_read_from_its_variable() {
    use std::os::unix::ffi::OsStrExt;
    for row in pod_svid_helper::options::table::TABLE {
        let helper = Helper::new().variable(&row.variable(), std::ffi::OsStr::from_bytes(b"\xff"));
        helper.finish().refused_with(&[&row.variable(), "UTF-8"]);
    }
}

#[test]
fn names_and_modes_of_the_files_can_be_chosen() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let names = ["--svid-file-name=tls.crt", "--svid-key-file-name=tls.key", "--bundle-file-name=ca.crt"];
    pod.helper(&names).arguments(&["--cert-file-mode=0640", "--key-file-mode=0440"]).finish().succeeded();
    for (name, mode) in [("tls.crt", 0o640), ("tls.key", 0o440), ("ca.crt", 0o640)] {
        assert_eq!(crate::pod::mode_of(&pod.volume().join(name)), mode, "{name}");
    }
}

#[test]
fn a_mode_is_a_word_in_any_case() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    pod.helper(&["--mode=INIT"]).finish().succeeded();
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    pod.helper(&[]).variable("HELPER_MODE", "").variable("HELPER_POD_SPIFFE_ID", "").finish().succeeded();
}

#[test]
fn the_standard_endpoint_variable_counts_when_nothing_else_names_the_socket() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let socket = format!("unix://{}", pod.socket().display());
    let volume = format!("--svid-path={}", pod.volume().display());
    Helper::new().argument(&volume).variable("SPIFFE_ENDPOINT_SOCKET", &socket).finish().succeeded();
    let both = Helper::new().argument(&volume).variable("SPIFFE_ENDPOINT_SOCKET", "unix:///nowhere");
    both.variable("HELPER_WORKLOAD_API_SOCKET", &socket).finish().succeeded();
}

#[test]
fn a_value_may_follow_its_option_as_the_next_argument() {
    refused(&["--mode", "once"], &["--mode takes", "\"once\""]);
}

#[test]
fn version_prints_name_and_version() {
    let finished = Helper::new().argument("--version").finish().succeeded();
    assert_eq!(finished.stdout, concat!("pod-svid-helper ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn help_names_every_option_its_variable_and_its_default() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    for row in pod_svid_helper::options::table::TABLE {
        assert!(help.contains(&format!("--{} {}", row.name(), row.placeholder)), "{}", row.name());
        assert!(help.contains(&row.variable()), "{}", row.name());
        assert!(
            row.default.is_none_or(|default| help.contains(&format!("(default {default})"))),
            "{}",
            row.name()
        );
    }
}

#[test]
fn the_readme_quotes_the_help() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    assert!(readme.contains(&format!("```text\n{help}```\n")), "copy the output of --help into README.md");
}
