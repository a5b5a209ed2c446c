//! Command line and environment.

use crate::pod::{Helper, ID, Pod, offer};

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
    a_missing_value_is_refused: ["--mode"] => ["--mode needs a value", "init, refresh, run, check, inspect or token"];
    a_value_for_help_is_refused: ["--help=all"] => ["help"];
    a_mode_that_does_not_exist_is_refused: ["--mode=once"] => ["--mode takes init, refresh, run, check, inspect or token", "\"once\""];
    an_empty_mode_is_refused: ["--mode="] => ["--mode needs a value", "init, refresh, run, check, inspect or token"];
    a_spiffe_id_with_another_scheme_is_refused: ["--pod-spiffe-id=https://example.org/a"] => ["--pod-spiffe-id takes", "\"https://example.org/a\"", "spiffe://"];
    a_spiffe_id_with_an_upper_case_trust_domain_is_refused: ["--pod-spiffe-id=spiffe://Example.org/a"] => ["--pod-spiffe-id takes", "trust domain"];
    a_spiffe_id_with_a_closing_slash_is_refused: ["--pod-spiffe-id=spiffe://example.org/a/"] => ["--pod-spiffe-id takes", "slash"];
    an_empty_spiffe_id_is_refused: ["--pod-spiffe-id="] => ["--pod-spiffe-id needs a value"];
    an_empty_directory_is_refused: ["--svid-path="] => ["--svid-path needs a value"];
    a_log_level_that_does_not_exist_is_refused: ["--log-level=loud"] => ["--log-level takes off, error, warn, info, debug or trace", "\"loud\""];
    a_log_format_that_does_not_exist_is_refused: ["--log-format=xml"] => ["--log-format takes text or json", "\"xml\""];
    a_timeout_without_unit_is_refused: ["--init-timeout=30"] => ["--init-timeout takes a number with ms, s, m or h", "\"30\""];
    a_timeout_of_nothing_is_refused: ["--init-timeout=0s"] => ["--init-timeout takes", "\"0s\"", "the least is 1ms"];
    a_timeout_of_a_year_is_refused: ["--init-timeout=8760h"] => ["--init-timeout takes", "\"8760h\"", "less than a year"];
    an_owner_by_name_is_refused_with_the_way_to_its_number: ["--file-owner=nginx"] => ["--file-owner takes UID or UID:GID", "\"nginx\"", "`id NAME`"];
    a_negative_timeout_is_refused: ["--init-timeout=-5s"] => ["--init-timeout takes", "\"-5s\""];
    a_file_name_with_a_slash_is_refused: ["--svid-file-name=a/b"] => ["--svid-file-name takes", "slash"];
    a_file_name_with_a_leading_dot_is_refused: ["--svid-key-file-name=..data"] => ["--svid-key-file-name takes", "leading dot"];
    an_empty_file_name_is_refused: ["--bundle-file-name="] => ["--bundle-file-name needs a value"];
    one_name_for_two_files_is_refused: ["--bundle-file-name=svid.pem"] => ["--svid-file-name", "--bundle-file-name", "\"svid.pem\""];
    a_mode_that_is_not_octal_is_refused: ["--key-file-mode=0480"] => ["--key-file-mode takes", "octal", "\"0480\""];
    a_mode_beyond_the_permission_bits_is_refused: ["--cert-file-mode=4755"] => ["--cert-file-mode takes", "\"4755\""];
    a_mode_in_words_is_refused: ["--cert-file-mode=u=rw"] => ["--cert-file-mode takes", "\"u=rw\""];
    an_empty_hint_is_refused: ["--hint="] => ["--hint needs a value"];
    a_switch_that_is_neither_true_nor_false_is_refused: ["--omit-expired=maybe"] => ["--omit-expired takes true or false", "\"maybe\""];
    a_value_behind_a_switch_is_refused: ["--omit-expired", "true"] => ["unexpected argument", "\"true\""];
    a_layout_that_does_not_exist_is_refused: ["--layout=pem,der"] => ["--layout takes pem, spiffe or pem,spiffe", "\"pem,der\""];
    a_layout_that_is_named_twice_is_refused: ["--layout=pem,pem"] => ["--layout takes"];
    a_jwt_svid_without_audience_is_refused: ["--jwt-svid=token.jwt"] => ["--jwt-svid takes FILE=AUDIENCE", "audience is missing"];
    a_jwt_svid_with_an_empty_audience_is_refused: ["--jwt-svid=token.jwt=one,"] => ["--jwt-svid takes", "audience is missing"];
    a_jwt_svid_with_a_path_is_refused: ["--jwt-svid=a/b=one"] => ["--jwt-svid takes", "slash"];
    a_signal_that_does_not_exist_is_refused: ["--renew-signal=SIGNOTHING", "--pid-file=/x"] => ["--renew-signal takes a signal's name or number"];
    a_process_name_with_a_path_is_refused: ["--signal-process=/usr/bin/nginx"] => ["--signal-process takes"];
    an_http_address_without_a_port_is_refused: ["--http-address=127.0.0.1"] => ["--http-address takes an IP address and a port"];
    an_output_that_does_not_exist_is_refused: ["--mode=inspect", "--output=xml"] => ["--output takes text, json or exec-credential"];
    // Options that make no sense together.
    check_with_a_socket_is_refused: ["--mode=check", "--workload-api-socket=/x"] => ["--workload-api-socket has no meaning in --mode=check", "init, refresh, run, inspect and token"];
    check_with_a_timeout_is_refused: ["--mode=check", "--init-timeout=1s"] => ["--init-timeout has no meaning in --mode=check"];
    check_with_a_signal_is_refused: ["--mode=check", "--pid-file=/x"] => ["--pid-file has no meaning in --mode=check"];
    inspect_with_a_directory_is_refused: ["--mode=inspect", "--svid-path=/x"] => ["--svid-path has no meaning in --mode=inspect"];
    a_least_time_to_live_without_check_is_refused: ["--min-ttl=1h"] => ["--min-ttl has no meaning in --mode=init", "it works in check"];
    an_output_format_without_inspect_is_refused: ["--output=json"] => ["--output has no meaning in --mode=init", "it works in inspect and token"];
    a_credential_in_inspect_is_refused: ["--mode=inspect", "--output=exec-credential"] => ["--output=exec-credential has no meaning in --mode=inspect", "it works in token"];
    a_token_for_nobody_is_refused: ["--mode=token"] => ["--mode=token needs --audience"];
    an_empty_audience_is_refused: ["--mode=token", "--audience=one,"] => ["--audience takes AUDIENCE[,AUDIENCE...]", "an audience is missing"];
    an_audience_in_another_mode_is_refused: ["--mode=init", "--audience=one"] => ["--audience has no meaning in --mode=init", "it works in token"];
    a_command_in_token_is_refused: ["--mode=token", "--audience=one", "--", "true"] => ["--mode=token runs no command"];
    a_command_in_check_is_refused: ["--mode=check", "--", "true"] => ["--mode=check runs no command"];
    a_signal_without_a_target_is_refused: ["--renew-signal=HUP"] => ["--renew-signal has no meaning without a target", "--pid-file"];
    a_signal_for_a_hook_alone_is_refused: ["--renew-signal=HUP", "--", "true"] => ["--renew-signal has no meaning without a target", "--pid-file"];
    a_mode_of_public_files_without_any_is_refused: ["--x509=false", "--jwt-svid=a=b", "--cert-file-mode=0600"] => ["--cert-file-mode has no meaning without X.509 files"];
    a_combined_file_with_the_name_of_another_is_refused: ["--combined-file-name=svid-key.pem"] => ["--svid-key-file-name", "--combined-file-name", "\"svid-key.pem\""];
    a_jwt_file_with_the_name_of_a_pem_file_is_refused: ["--jwt-svid=bundle.pem=one"] => ["--bundle-file-name", "--jwt-svid", "\"bundle.pem\""];
    two_jwt_files_with_one_name_are_refused: ["--jwt-svid=a=one", "--jwt-svid=a=two"] => ["--jwt-svid and --jwt-svid both name", "\"a\""];
    a_file_with_the_name_of_the_credential_bundle_is_refused: ["--layout=spiffe", "--combined-file-name=credential-bundle.private-key.x509.pem"] => ["--layout", "--combined-file-name"];
    a_file_with_the_name_of_a_federated_bundle_is_refused: ["--include-federated-bundles", "--combined-file-name=other.org.bundle.pem"] => ["--combined-file-name", "\".bundle.pem\"", "belong to trust domains"];
    a_file_with_the_name_of_a_federated_jwt_bundle_is_refused: ["--include-federated-bundles", "--jwt-bundle-file-name=jwks.json", "--jwt-svid=a.jwks.json=one"] => ["--jwt-svid", "--jwt-bundle-file-name", "\".jwks.json\""];
    two_kinds_of_federated_bundles_with_one_name_are_refused: ["--include-federated-bundles", "--bundle-file-name=ca.pem", "--jwt-bundle-file-name=bundle.pem"] => ["--include-federated-bundles", "--jwt-bundle-file-name", "can name the same file"];
    an_empty_jwt_svid_is_refused: ["--jwt-svid="] => ["--jwt-svid needs a value", "FILE=AUDIENCE"];
    a_file_with_the_name_of_a_trust_bundle_is_refused: ["--layout=spiffe", "--combined-file-name=a.spiffe-trust-bundle.x509.pem"] => ["--combined-file-name", "belong to trust domains"];
    jwt_alone_without_any_is_refused: ["--x509=false"] => ["--x509=false leaves nothing to do", "--jwt-svid"];
    jwt_alone_with_a_pem_file_is_refused: ["--x509=false", "--jwt-svid=a=b", "--svid-file-name=c"] => ["--svid-file-name has no meaning without X.509 files"];
    jwt_bundles_alone_without_an_id_are_refused: ["--x509=false", "--jwt-bundle-file-name=jwks.json"] => ["--jwt-bundle-file-name has no meaning without --pod-spiffe-id"];
    a_pem_file_without_its_layout_is_refused: ["--layout=spiffe", "--bundle-file-name=ca.crt"] => ["--bundle-file-name has no meaning without --layout=pem"];
    merged_bundles_without_the_pem_layout_are_refused: ["--layout=spiffe", "--merge-federated-bundles"] => ["--merge-federated-bundles has no meaning without --layout=pem"];
    federated_files_without_the_pem_layout_are_refused: ["--layout=spiffe", "--include-federated-bundles"] => ["--include-federated-bundles has no meaning without"];
    jwt_alone_with_a_bundle_map_is_refused: ["--x509=false", "--jwt-svid=a=b", "--bundle-map-file-name=c"] => ["--bundle-map-file-name has no meaning without X.509 files"];
    a_bundle_map_with_the_name_of_a_pem_file_is_refused: ["--bundle-map-file-name=bundle.pem"] => ["--bundle-file-name and --bundle-map-file-name both name", "\"bundle.pem\""];
    jwt_alone_with_revocation_lists_is_refused: ["--x509=false", "--jwt-svid=a=b", "--crl-file-name=c"] => ["--crl-file-name has no meaning without X.509 files"];
    revocation_lists_with_the_name_of_a_pem_file_are_refused: ["--crl-file-name=bundle.pem"] => ["--bundle-file-name and --crl-file-name both name", "\"bundle.pem\""];
    an_alias_without_a_keystore_is_refused: ["--keystore-alias=user", "--truststore-file-name=t"] => ["--keystore-alias has no meaning without --keystore-file-name"];
    an_alias_in_other_letters_than_ascii_is_refused: ["--keystore-file-name=k", "--keystore-alias=schl\u{fc}ssel"] => ["--keystore-alias takes an alias in printable ASCII, not", "schl\u{fc}ssel"];
    a_keystore_password_without_a_keystore_is_refused: ["--keystore-password-file=/x"] => ["--keystore-password-file has no meaning without --keystore-file-name or --truststore-file-name"];
    a_mode_of_jwt_files_without_any_is_refused: ["--jwt-file-mode=0644"] => ["--jwt-file-mode has no meaning without --jwt-svid"];
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
        .refused_with(&["HELPER_MODE takes init, refresh, run, check, inspect or token", "\"once\""]);
}

#[test]
fn a_bad_endpoint_variable_is_refused_by_its_own_name() {
    let helper = Helper::new().variable("SPIFFE_ENDPOINT_SOCKET", "http://localhost");
    helper.finish().refused_with(&["SPIFFE_ENDPOINT_SOCKET takes", "\"http://localhost\""]);
}

#[test]
fn a_long_value_is_refused_in_a_short_message() {
    for argument in ["--mode=", "--", "stray"] {
        let argument = argument.to_owned() + &"x\u{1}".repeat(50_000);
        let finished = Helper::new().argument(&argument).finish();
        let finished = finished.refused_with(&[" ... (1000", " bytes)"]);
        assert!(finished.log.len() < 4096, "{} bytes", finished.log.len());
    }
}

#[test]
fn a_flag_wins_over_a_variable() {
    let helper = Helper::new().variable("HELPER_MODE", "nonsense").argument("--mode=worse");
    helper.finish().refused_with(&["--mode takes", "\"worse\""]);
}

#[test]
fn an_option_that_is_given_twice_is_refused() {
    refused(&["--mode=refresh", "--mode=check"], &["--mode is given twice", "\"refresh\"", "\"check\""]);
    refused(&["--svid-path=/a", "--hint=b", "--svid-path", "/a"], &["--svid-path is given twice"]);
    refused(&["--omit-expired", "--omit-expired=false"], &["--omit-expired is given twice"]);
}

/// The modes that read the variable of an option.
fn modes_of(name: &str) -> &'static [&'static str] {
    match name {
        "mode" | "log-level" | "log-format" => &["init", "refresh", "run", "check", "inspect", "token"],
        "init-timeout" => &["init", "inspect", "token"],
        "workload-api-socket" => &["init", "refresh", "run", "inspect", "token"],
        "pod-spiffe-id" => &["init", "refresh", "run", "check", "token"],
        "hint" => &["init", "refresh", "run", "token"],
        "audience" => &["token"],
        "jwt-svid" => &["init", "refresh", "run", "check", "inspect"],
        "file-owner" | "renew-signal" | "notify-for" => &["init", "refresh", "run"],
        "on-revoked" | "http-address" | "notify-splay" => &["refresh", "run"],
        // An init container may share the variable with a sidecar, and has no application yet.
        "pid-file" | "signal-process" => &["refresh"],
        "on-renewal" => &["run"],
        "min-ttl" => &["check"],
        "output" => &["inspect", "token"],
        _ => &["init", "refresh", "run", "check"],
    }
}

/// A command line that ends at once: one name for two files is refused after all variables are read.
fn without_work(mode: &str) -> Helper {
    let helper = Helper::new().argument(format!("--mode={mode}")).variable("HELPER_INIT_TIMEOUT", "1ms");
    match mode {
        "inspect" | "token" => helper,
        "run" => helper.argument("--bundle-file-name=svid.pem").command(&["true"]),
        _ => helper.argument("--bundle-file-name=svid.pem"),
    }
}

#[test]
fn a_variable_is_read_in_its_modes_and_ignored_in_the_others_value_and_all() {
    use std::os::unix::ffi::OsStrExt;
    let bad = std::ffi::OsStr::from_bytes(b"\xff");
    let rows = pod_svid_helper::for_tests::TABLE.iter();
    // Their flags are given.
    for row in rows.filter(|row| !["mode", "bundle-file-name"].contains(&&*row.name())) {
        for mode in ["init", "refresh", "run", "check", "inspect", "token"] {
            let variable = row.variable();
            let finished = without_work(mode).variable(&variable, bad).finish();
            if modes_of(&row.name()).contains(&mode) {
                finished.refused_with(&[&variable, "UTF-8"]);
            } else {
                assert!(!finished.log.contains(&variable), "{mode}: {}", finished.log);
            }
        }
    }
    let check = without_work("check").variable("SPIFFE_ENDPOINT_SOCKET", "nonsense");
    check.argument("--svid-path=/nowhere").finish().failed_with(&["cannot open the directory /nowhere"]);
}

#[test]
fn names_and_modes_of_the_files_can_be_chosen() {
    let (pod, _agent) = Pod::with_agent();
    let names = ["--svid-file-name=tls.crt", "--svid-key-file-name=tls.key", "--bundle-file-name=ca.crt"];
    pod.helper(&names).arguments(&["--cert-file-mode=0640", "--key-file-mode=0440"]).finish().succeeded();
    for (name, mode) in [("tls.crt", 0o640), ("tls.key", 0o440), ("ca.crt", 0o640)] {
        assert_eq!(crate::pod::mode_of(&pod.volume().join(name)), mode, "{name}");
    }
}

#[test]
fn a_mode_is_a_word_in_any_case() {
    let (pod, _agent) = Pod::with_agent();
    pod.helper(&["--mode=INIT"]).finish().succeeded();
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let (pod, _agent) = Pod::with_agent();
    pod.helper(&[]).variable("HELPER_MODE", "").variable("HELPER_POD_SPIFFE_ID", "").finish().succeeded();
}

#[test]
fn the_standard_endpoint_variable_counts_when_nothing_else_names_the_socket() {
    let (pod, _agent) = Pod::with_agent();
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
fn help_names_every_option_and_its_default_under_a_heading_of_its_group() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    for row in pod_svid_helper::for_tests::TABLE {
        let (name, group) =
            (row.name(), help.split_once(&format!("\n{}:\n", row.group)).expect("a heading").1);
        let head = format!("  --{name} {}", row.placeholder);
        let entry = group.split_once(head.trim_end()).expect("an entry").1;
        let entry = entry.split("\n  --").next().expect("its text");
        // A switch that is off needs no words for it.
        let default = row.default.filter(|default| *default != "false");
        assert!(default.is_none_or(|value| entry.contains(&format!("(default {value})"))), "{name}: {entry}");
    }
}

#[test]
fn help_says_how_variables_are_named() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    let row = pod_svid_helper::for_tests::TABLE.iter().find(|row| row.name() == "svid-path").expect("it");
    assert!(help.contains(&format!("set by a variable: --svid-path by {}.", row.variable())), "{help}");
    assert!(help.contains("SPIFFE_ENDPOINT_SOCKET"));
}

#[test]
fn help_has_80_columns_at_most() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
}

#[test]
fn help_with_a_mode_names_the_options_of_that_mode_alone_and_an_example() {
    for mode in ["init", "refresh", "run", "check", "inspect", "token"] {
        for arguments in [["--help", &format!("--mode={mode}")], [&format!("--mode={mode}"), "-h"]] {
            let help = Helper::new().arguments(&arguments).finish().succeeded().stdout;
            for row in pod_svid_helper::for_tests::TABLE {
                let is_named = help.contains(&format!("\n  --{} ", row.name()))
                    || help.contains(&format!("\n  --{}\n", row.name()));
                // Only the variables of these are ignored in init.
                let is_flag_of_init =
                    ["pid-file", "signal-process"].contains(&&*row.name()) && mode == "init";
                assert_eq!(
                    is_named,
                    is_flag_of_init || modes_of(&row.name()).contains(&mode),
                    "{mode}: {}",
                    row.name()
                );
            }
            let examples = help.split_once("\nExamples:\n").expect("examples").1.lines();
            assert_eq!(
                examples.take_while(|line| line.starts_with("  pod-svid-helper ")).count(),
                1,
                "{help}"
            );
            assert_eq!(help.contains("  -- COMMAND"), ["init", "refresh", "run"].contains(&mode), "{help}");
        }
    }
    let of_no_mode = Helper::new().arguments(&["--help", "--mode=once"]).finish().succeeded().stdout;
    assert_eq!(of_no_mode, Helper::new().argument("--help").finish().succeeded().stdout);
}

#[test]
fn help_says_which_exit_codes_the_application_can_give() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    let codes = help.split_once("\nExit codes: ").expect("exit codes").1.replace('\n', " ");
    for code in ["0 success", "1 failure", "2 usage error", "128+n", "127", "126"] {
        assert!(codes.contains(code), "{code}: {codes}");
    }
}

#[test]
fn a_variable_that_has_no_meaning_in_a_mode_is_ignored() {
    let (pod, _agent) = Pod::with_agent();
    let helper = pod.helper(&[]).variable("HELPER_MIN_TTL", "1h").variable("HELPER_OUTPUT", "json");
    helper.variable("HELPER_RENEW_SIGNAL", "USR1").finish().succeeded();
    let refresh = pod.helper(&["--mode=refresh"]).variable("HELPER_RENEW_SIGNAL", "USR1");
    let mut refresh = refresh.variable("HELPER_ON_RENEWAL", "restart").start();
    refresh.wait_for_log(&["nothing written"]);
    refresh.stop();
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    let inspect = Helper::new().arguments(&["--mode=inspect", &socket]);
    inspect.variable("HELPER_OUTPUT", "exec-credential").finish().succeeded();
    let path = format!("--svid-path={}", pod.volume().display());
    let check = Helper::new().arguments(&["--mode=check", &path]);
    let check = check.variable("HELPER_WORKLOAD_API_SOCKET", "/nowhere");
    check.variable("HELPER_RENEW_SIGNAL", "USR1").finish().succeeded();
}

#[test]
fn the_readme_has_each_option_as_the_help_has_it() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let mut expected = String::from("| option | default | what it does |\n| --- | --- | --- |\n");
    let mut group = "";
    for row in pod_svid_helper::for_tests::TABLE {
        if row.group != group {
            group = row.group;
            expected += &format!("| **{group}** | | |\n");
        }
        let name = format!("--{} {}", row.name(), row.placeholder);
        let default = row.default.map(|default| format!("`{default}`")).unwrap_or_default();
        expected += &format!("| `{}` | {default} | {} |\n", name.trim_end(), row.description());
    }
    assert!(readme.contains(&expected), "README.md lacks this table:\n{expected}");
}

#[test]
fn a_result_that_cannot_be_printed_is_a_failure() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let volume = format!("--svid-path={}", pod.volume().display());
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    for arguments in [["--mode=check", &volume], ["--mode=inspect", &socket]] {
        let finished = Helper::new().arguments(&arguments).into_full_device(true).finish();
        assert_eq!(finished.status.code(), Some(1), "{}", finished.log);
        assert!(finished.log.contains("No space left on device"), "{}", finished.log);
    }
    assert_eq!(Helper::new().argument("--help").into_full_device(true).finish().status.code(), Some(1));
}

#[test]
fn a_usage_error_has_its_exit_code_even_if_nobody_can_read_why() {
    let finished = Helper::new().argument("--nonsense").into_full_device(false).finish();
    assert_eq!(finished.status.code(), Some(2));
}

#[test]
fn a_spiffe_id_without_a_path_is_refused_at_the_start() {
    refused(
        &["--pod-spiffe-id=spiffe://example.org"],
        &["--pod-spiffe-id", "spiffe://example.org", "a path"],
    );
}

#[test]
fn white_space_around_a_value_does_not_count() {
    let (pod, _agent) = Pod::with_agent();
    let socket = format!("{}\n", pod.socket().display());
    let volume = format!("--svid-path={}", pod.volume().display());
    for name in ["HELPER_WORKLOAD_API_SOCKET", "SPIFFE_ENDPOINT_SOCKET"] {
        let socket = if name.starts_with("SPIFFE") { format!("unix://{socket}") } else { socket.clone() };
        let helper = Helper::new().argument(&volume).variable(name, &socket);
        helper
            .variable("HELPER_MODE", " init\n")
            .variable("HELPER_POD_SPIFFE_ID", format!("{ID}\n"))
            .finish()
            .succeeded();
    }
}

#[test]
fn a_token_that_every_user_can_read_is_written_with_a_warning() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), std::time::Duration::from_secs(300));
    let finished = pod.init(&["--jwt-svid=token.jwt=one", "--jwt-file-mode=0644"]).succeeded();
    let warning = "WARN  --jwt-file-mode=0644 lets every user read the JWT-SVIDs";
    assert!(finished.log.contains(warning), "{}", finished.log);
}

#[test]
fn a_flag_that_would_do_nothing_in_the_mode_is_refused() {
    for (mode, flag) in [
        ("init", "--http-address=127.0.0.1:0"),
        ("init", "--on-revoked=remove"),
        ("refresh", "--init-timeout=5s"),
        ("refresh", "--on-renewal=restart"),
        ("refresh", "--min-ttl=5s"),
        ("check", "--workload-api-socket=/nowhere"),
        ("inspect", "--svid-path=/tmp"),
    ] {
        let option = flag.split('=').next().expect("a name");
        refused(&[&format!("--mode={mode}"), flag], &[option, "has no meaning", mode]);
    }
}

#[test]
fn an_option_in_place_of_a_value_is_refused() {
    let rows = pod_svid_helper::for_tests::TABLE.iter();
    // A switch takes no next argument.
    for row in rows.filter(|row| !row.placeholder.is_empty()) {
        let option = format!("--{}", row.name());
        let needs = format!("{option} needs a value");
        refused(&[&option, "--log-level=info"], &[&needs, "--log-level=info", &format!("{option}=VALUE")]);
    }
}

#[test]
fn an_option_without_a_value_says_what_it_needs() {
    for row in pod_svid_helper::for_tests::TABLE {
        for empty in ["", " "] {
            let option = format!("--{}", row.name());
            refused(&[&format!("{option}={empty}")], &[&format!("{option} needs a value")]);
        }
    }
}

#[test]
fn an_option_with_one_dash_is_refused_with_the_right_spelling() {
    let names = pod_svid_helper::for_tests::TABLE.iter().map(|row| row.name());
    for name in names.chain(["help".to_owned(), "version".to_owned()]) {
        refused(&[&format!("-{name}")], &[&format!("write --{name} with two dashes")]);
        refused(&[&format!("-{name}=x")], &[&format!("write --{name}=x with two dashes")]);
    }
    refused(&["\u{2013}mode=init"], &["write --mode=init with two dashes"]);
    refused(&["mode=init"], &["write --mode=init with two dashes"]);
    refused(&["-mdoe=init"], &["there is no option \"-mdoe\"", "did you mean --mode?"]);
}

#[test]
fn a_name_is_suggested_only_if_it_is_near() {
    let near = [
        ("--svid-pat", "--svid-path"),
        ("--log-levle", "--log-level"),
        ("--svidKeyFileName", "--svid-key-file-name"),
        ("--SVID_PATH=/x", "--svid-path"),
        ("--spiffe-id", "--pod-spiffe-id"),
        ("--hlep", "--help"),
    ];
    for (given, meant) in near {
        refused(&[given], &[&format!("did you mean {meant}?")]);
    }
    for far in ["--nope", "--cert-file-name", "--bundle", "--config", "--file", "--port", "--"] {
        let far = if far == "--" { "---" } else { far };
        let finished = Helper::new().argument(far).finish().refused_with(&["--help lists them"]);
        assert!(!finished.log.contains("did you mean"), "{}", finished.log);
    }
}

#[test]
fn a_mode_without_its_option_is_refused_with_the_right_spelling() {
    refused(&["refresh"], &["unexpected argument \"refresh\"", "did you mean --mode=refresh?"]);
    refused(
        &["--omit-expired", "false"],
        &["unexpected argument \"false\"", "did you mean --omit-expired=false?"],
    );
}

#[test]
fn a_file_mode_that_no_file_of_the_set_can_need_is_refused() {
    for option in ["--cert-file-mode", "--key-file-mode", "--jwt-file-mode"] {
        // Writable for others, executable, not readable for the owner.
        for mode in
            ["0666", "0660", "0602", "0700", "0755", "0410", "0401", "0200", "0000", "0", "0044", "777"]
        {
            let argument = format!("{option}={mode}");
            refused(&[&argument], &[option, mode, "modes are octal", "readable for its owner"]);
        }
    }
}

#[test]
fn a_file_mode_that_yaml_has_made_decimal_is_refused_with_what_was_meant() {
    let modes = [
        ("256", "0400"),
        ("288", "0440"),
        ("292", "0444"),
        ("384", "0600"),
        ("416", "0640"),
        ("420", "0644"),
    ];
    for (decimal, octal) in modes {
        for option in ["--cert-file-mode", "--key-file-mode", "--jwt-file-mode"] {
            let meant = format!("YAML reads an unquoted {octal} as {decimal}: quote it");
            refused(&[&format!("{option}={decimal}")], &[option, "modes are octal", &meant]);
        }
    }
}

#[test]
fn a_file_mode_for_reading_is_taken_with_or_without_a_zero_before_it() {
    for mode in ["0400", "0440", "0444", "0600", "0640", "0644", "0604", "400", "644"] {
        let (pod, _agent) = Pod::with_agent();
        pod.init(&[&format!("--key-file-mode={mode}")]).succeeded();
        let bits = u32::from_str_radix(mode, 8).expect("octal");
        assert_eq!(crate::pod::mode_of(&pod.volume().join("svid-key.pem")), bits);
    }
}

/// The warnings of an init with these variables.
fn warnings(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let (pod, _agent) = Pod::with_agent();
    let helper =
        variables.iter().fold(pod.helper(arguments), |helper, (name, value)| helper.variable(name, value));
    let log = helper.finish().succeeded().log;
    log.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

#[test]
fn an_empty_variable_that_chooses_the_identity_is_warned_of() {
    for variable in ["HELPER_POD_SPIFFE_ID", "HELPER_HINT"] {
        for empty in ["", " \n"] {
            let warnings = warnings(&[], &[(variable, empty)]);
            assert!(
                matches!(&warnings[..], [one] if one.contains(&format!("{variable} is set but empty"))),
                "{warnings:?}"
            );
        }
    }
    assert_eq!(warnings(&[&format!("--pod-spiffe-id={ID}")], &[("HELPER_POD_SPIFFE_ID", "")]), [""; 0]);
}

#[test]
fn other_empty_variables_count_as_unset_without_a_line() {
    let names: Vec<_> = pod_svid_helper::for_tests::TABLE.iter().map(|row| row.variable()).collect();
    let others = names.iter().filter(|name| !["HELPER_POD_SPIFFE_ID", "HELPER_HINT"].contains(&&***name));
    let variables: Vec<_> =
        others.map(|name| (name.as_str(), "")).chain([("HELPER_SPIFFE_ID", "")]).collect();
    assert_eq!(warnings(&[], &variables), [""; 0]);
}

#[test]
fn a_mistyped_variable_is_warned_of_with_the_nearest_name() {
    for (given, meant) in [
        ("HELPER_PODSPIFFE_ID", "HELPER_POD_SPIFFE_ID"),
        ("HELPER_SPIFFE_ID", "HELPER_POD_SPIFFE_ID"),
        ("HELPER_SPIFFEID", "HELPER_POD_SPIFFE_ID"),
        ("HELPER_POD_SPIFEE_ID", "HELPER_POD_SPIFFE_ID"),
        ("HELPER_SVIDPATH", "HELPER_SVID_PATH"),
        ("HELPER_SVID-PATH", "HELPER_SVID_PATH"),
        ("helper_svid_path", "HELPER_SVID_PATH"),
        ("HELPER_HINTS", "HELPER_HINT"),
    ] {
        let warnings = warnings(&[], &[(given, "x")]);
        let parts = [given, &format!("did you mean {meant}?")];
        let is_right = |line: &String| parts.iter().all(|part| line.contains(part));
        assert!(matches!(&warnings[..], [one] if is_right(one)), "{given}: {warnings:?}");
    }
}

#[test]
fn variables_of_kubernetes_and_of_others_are_not_warned_of() {
    let variables = [
        ("HELPER_PORT", "tcp://10.96.0.7:8080"),
        ("HELPER_SERVICE_HOST", "10.96.0.7"),
        ("HELPER_SERVICE_PORT", "8080"),
        ("HELPER_SERVICE_PORT_HTTP", "8080"),
        ("HELPER_SERVICE_PORT_OUTPUT", "8080"),
        ("HELPER_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
        ("HELPER_PORT_8080_TCP_ADDR", "10.96.0.7"),
        ("HELPER_PORT_8080_TCP_PORT", "8080"),
        ("HELPER_PORT_8080_TCP_PROTO", "tcp"),
        ("HELPER_MODE_PORT", "tcp://10.96.0.7:8080"),
        ("HELPER_MODE_SERVICE_HOST", "10.96.0.7"),
        ("HELPER_IMAGE", "x"),
        ("SVID_PATH", "/x"),
        ("MODE", "x"),
    ];
    assert_eq!(warnings(&[], &variables), [""; 0]);
}
