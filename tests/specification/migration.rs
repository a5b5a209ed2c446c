//! Coming from spiffe-helper: each of its configuration keys and flags, and the equivalent here.
//! manifests/recipes/from-spiffe-helper.md has them in a table; here is a test for every row.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use workload_api_server::authority::{Authority, Recipe};

use crate::http::{Probe, listening_sockets};
use crate::pod::{App, Helper, ID, Pod, claims, ders, mode_of, names, offer};

/// A JWT-SVID's life, none of which these tests see the end of.
const LONG: Duration = Duration::from_secs(300);

fn certificates(pod: &Pod, name: &str) -> Vec<u8> {
    ders(&pod.read(name), "CERTIFICATE")
}

/// Tests, each with the key or flag that it is about.
macro_rules! tests_of_keys {
    ($($key:literal: $name:ident $body:block)+) => {
        /// Every key and flag that has a test.
        const TESTED: &[&str] = &[$($key),+];

        $(
            #[test]
            fn $name() $body
        )+
    };
}

tests_of_keys! {
    "agent_address": agent_address_is_workload_api_socket {
        let by_path = |pod: &Pod| Helper::new().argument("--workload-api-socket").argument(pod.socket());
        let by_variable = |pod: &Pod| {
            Helper::new().variable("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", pod.socket().display()))
        };
        for helper in [&by_path as &dyn Fn(&Pod) -> Helper, &by_variable] {
            let pod = Pod::new();
            let svid = pod.mint();
            let _agent = pod.agent(offer([svid.clone()]));
            helper(&pod).argument("--svid-path").argument(pod.volume()).finish().succeeded();
            pod.wait_for(&svid);
        }
    }

    "cmd": cmd_is_what_follows_the_dashes {
        let (pod, agent) = Pod::with_agent();
        let text = r#"
            trap 'echo HUP >>"$0/runs"' HUP
            echo started >>"$0/runs"
            while kill -0 $PPID; do sleep 0.05; done
        "#;
        let run = pod.helper(&["--mode=run"]).command(&pod.script(text)).start();
        pod.wait_for_runs("started\n");
        agent.reply(offer([pod.mint()]));
        pod.wait_for_runs("started\nHUP\n");
        drop(run);
    }

    "cmd_args": cmd_args_are_words_of_their_own {
        let (pod, _agent) = Pod::with_agent();
        let text = r#"for argument; do echo "[$argument]" >>"$0/runs"; done"#;
        let arguments = ["-g", "daemon off;"].map(str::to_owned).to_vec();
        let command = [pod.script(text), arguments].concat();
        let refresh = pod.helper(&["--mode=refresh"]).command(&command).start();
        pod.wait_for_runs("[-g]\n[daemon off;]\n");
        refresh.stop();
    }

    "pid_file_name": pid_file_name_is_pid_file {
        let pod = Pod::new();
        let app = App::start(&pod, "app");
        let agent = pod.agent(offer([pod.mint()]));
        let option = pod.pid_file(app.pid());
        let refresh = pod.refresh(&[&option]);
        app.wait_for_signals(&["HUP"]);
        agent.reply(offer([pod.mint()]));
        app.wait_for_signals(&["HUP", "HUP"]);
        refresh.stop();
        std::fs::remove_dir_all(pod.volume()).expect("the volume");
        pod.init(&[&option]).succeeded();
        app.wait_for_signals(&["HUP", "HUP", "HUP"]);
    }

    "cert_dir": cert_dir_is_svid_path_and_need_not_be_there {
        let (pod, _agent) = Pod::with_agent();
        let directory = pod.volume().join("certs");
        pod.helper_at(pod.socket().display(), &directory).finish().succeeded();
        let files = names(&directory).into_iter().filter(|name| name.ends_with(".pem"));
        assert_eq!(files.collect::<Vec<_>>(), ["bundle.pem", "svid-key.pem", "svid.pem"]);
    }

    "daemon_mode": daemon_mode_is_the_mode {
        let pod = Pod::new();
        let (first, second) = (pod.mint(), pod.mint());
        let agent = pod.agent(offer([first.clone()]));
        pod.helper(&[]).finish().succeeded();
        pod.wait_for(&first);
        let refresh = pod.helper(&["--mode=refresh"]).start();
        pod.rotate_to(&agent, &second);
        refresh.stop();
    }

    "add_intermediates_to_bundle": add_intermediates_to_bundle_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let authority = Authority::new("example.org").with_intermediate();
        let svid = authority.mint(&Recipe::for_id(ID));
        let _agent = pod.agent(offer([svid.clone()]));
        pod.init(&["--add-intermediates-to-bundle"]).succeeded();
        assert_eq!(pod.read("svid.pem").matches("BEGIN CERTIFICATE").count(), 1);
        let leaf = certificates(&pod, "svid.pem");
        let intermediate = svid.x509_svid.strip_prefix(leaf.as_slice()).expect("the leaf");
        assert_eq!(certificates(&pod, "bundle.pem"), [&svid.bundle, intermediate].concat());
    }

    "renew_signal": renew_signal_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let app = App::start(&pod, "app");
        let _agent = pod.agent(offer([pod.mint()]));
        let option = pod.pid_file(app.pid());
        let refresh = pod.refresh(&[&option, "--renew-signal=SIGUSR1"]);
        app.wait_for_signals(&["USR1"]);
        refresh.stop();
        pod.init(&[&option, "--renew-signal=SIGNOTHING"]).refused_with(&["--renew-signal", "SIGNOTHING"]);
    }

    "svid_file_name": svid_file_name_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        pod.init(&["--svid-file-name=tls.crt"]).succeeded();
        assert_eq!(certificates(&pod, "tls.crt"), svid.x509_svid);
    }

    "svid_key_file_name": svid_key_file_name_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        pod.init(&["--svid-key-file-name=tls.key"]).succeeded();
        assert_eq!(ders(&pod.read("tls.key"), "PRIVATE KEY"), svid.x509_svid_key);
    }

    "svid_bundle_file_name": svid_bundle_file_name_is_bundle_file_name {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        pod.init(&["--bundle-file-name=ca.crt"]).succeeded();
        assert_eq!(certificates(&pod, "ca.crt"), svid.bundle);
    }

    "jwt_svids": jwt_svids_are_a_jwt_svid_option_each {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        pod.init(&["--jwt-svid=one.jwt=one", "--jwt-svid=two.jwt=two"]).succeeded();
        for name in ["one", "two"] {
            assert_eq!(claims(&pod.read(&format!("{name}.jwt")))["aud"], json!([name]));
        }
    }

    "jwt_audience": jwt_audience_follows_the_equals_sign {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        pod.init(&["--jwt-svid=token.jwt=spiffe://example.org/api?a=b"]).succeeded();
        assert_eq!(claims(&pod.read("token.jwt"))["aud"], json!(["spiffe://example.org/api?a=b"]));
    }

    "jwt_extra_audiences": jwt_extra_audiences_follow_commas {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        pod.init(&["--jwt-svid=token.jwt=one,two,three"]).succeeded();
        assert_eq!(claims(&pod.read("token.jwt"))["aud"], json!(["one", "two", "three"]));
    }

    "jwt_svid_file_name": jwt_svid_file_name_precedes_the_equals_sign {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        pod.init(&["--jwt-svid=some.name=one"]).succeeded();
        assert_eq!(claims(&pod.read("some.name"))["sub"], ID);
        pod.init(&["--jwt-svid=some/path=one"]).refused_with(&["--jwt-svid", "plain file name"]);
    }

    "jwt_bundle_file_name": jwt_bundle_file_name_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        pod.init(&["--jwt-bundle-file-name=jwks.json"]).succeeded();
        assert_eq!(pod.read("jwks.json").into_bytes(), pod.authority.jwks());
    }

    "include_federated_domains": include_federated_domains_is_merge_federated_bundles {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(pod.offer_everything(&svid));
        pod.init(&["--merge-federated-bundles"]).succeeded();
        assert_eq!(certificates(&pod, "bundle.pem"), [svid.bundle, pod.federated.bundle()].concat());
    }

    "include_federated_domains": include_federated_domains_is_better_as_include_federated_bundles {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent_with_jwt(pod.offer_everything(&svid), LONG);
        pod.init(&["--include-federated-bundles", "--jwt-bundle-file-name=jwks.json"]).succeeded();
        assert_eq!(certificates(&pod, "bundle.pem"), svid.bundle);
        assert_eq!(certificates(&pod, "other.org.bundle.pem"), pod.federated.bundle());
        assert_eq!(pod.read("other.org.jwks.json").into_bytes(), pod.federated.jwks());
    }

    "omit_expired": omit_expired_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let mut svid = pod.mint();
        let valid = svid.bundle.clone();
        svid.bundle.extend(pod.authority.expired_root());
        let _agent = pod.agent(offer([svid]));
        pod.init(&["--omit-expired"]).succeeded();
        assert_eq!(certificates(&pod, "bundle.pem"), valid);
    }

    "hint": hint_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let [other, wanted] =
            ["external", "internal"].map(|hint| pod.authority.mint(&Recipe::for_id(ID).hint(hint)));
        let _agent = pod.agent(offer([other, wanted.clone()]));
        pod.init(&["--hint=internal"]).succeeded();
        pod.wait_for(&wanted);
    }

    "cert_file_mode": cert_file_mode_is_the_option_of_the_same_name {
        let pod = Pod::new();
        let (first, second) = (pod.mint(), pod.mint());
        let agent = pod.agent(offer([first.clone()]));
        let refresh = pod.refresh(&["--cert-file-mode=0444"]);
        pod.wait_for(&first);
        // Its owner may not write to it, which spiffe-helper would have to do now.
        pod.rotate_to(&agent, &second);
        refresh.stop();
        let modes = ["svid.pem", "bundle.pem"].map(|name| mode_of(&pod.volume().join(name)));
        assert_eq!(modes, [0o444, 0o444]);
    }

    "key_file_mode": key_file_mode_is_the_option_of_the_same_name {
        let (pod, _agent) = Pod::with_agent();
        pod.init(&["--key-file-mode=0600"]).succeeded();
        assert_eq!(mode_of(&pod.volume().join("svid-key.pem")), 0o600);
    }

    "jwt_bundle_file_mode": jwt_bundle_file_mode_is_cert_file_mode {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        let name = "--jwt-bundle-file-name=jwks.json";
        pod.init(&[name]).succeeded();
        assert_eq!(mode_of(&pod.volume().join("jwks.json")), 0o644);
        pod.init(&[name, "--cert-file-mode=0600"]).succeeded();
        assert_eq!(mode_of(&pod.volume().join("jwks.json")), 0o600);
    }

    "jwt_svid_file_mode": jwt_svid_file_mode_is_jwt_file_mode {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        pod.init(&["--jwt-svid=token.jwt=one", "--jwt-file-mode=0640"]).succeeded();
        assert_eq!(mode_of(&pod.volume().join("token.jwt")), 0o640);
    }

    "health_checks": health_checks_are_an_http_address_or_mode_check {
        let (pod, _agent) = Pod::with_agent();
        pod.check(&[]).failed_with(&["svid"]);
        let mut refresh = pod.refresh(&["--http-address=127.0.0.1:0"]);
        Probe::of(&mut refresh).wait_until_ready_is(200);
        pod.check(&[]).succeeded();
        refresh.stop();
    }

    "listener_enabled": listener_enabled_is_there_being_an_http_address {
        for (options, listeners) in [(&[][..], 0), (&["--http-address=127.0.0.1:0"], 1)] {
            let pod = Pod::new();
            let svid = pod.mint();
            let _agent = pod.agent(offer([svid.clone()]));
            let refresh = pod.refresh(options);
            // The first thing it does is to listen.
            pod.wait_for(&svid);
            assert_eq!(listening_sockets(refresh.pid()), listeners);
            refresh.stop();
        }
    }

    "bind_port": bind_port_is_in_the_http_address {
        let (pod, _agent) = Pod::with_agent();
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let mut refresh = pod.refresh(&[&format!("--http-address=127.0.0.1:{port}")]);
        Probe::of(&mut refresh);
        Probe::on(port).wait_until_ready_is(200);
        refresh.stop();
    }

    "liveness_path": liveness_path_is_live {
        let pod = Pod::new();
        let mut refresh = pod.refresh(&["--http-address=127.0.0.1:0"]);
        assert_eq!(Probe::of(&mut refresh).get("/live").0, 200);
        refresh.stop();
    }

    "readiness_path": readiness_path_is_ready {
        let pod = Pod::new();
        let mut refresh = pod.refresh(&["--http-address=127.0.0.1:0"]);
        let probe = Probe::of(&mut refresh);
        assert_eq!(probe.get("/ready").0, 503);
        let _agent = pod.agent(offer([pod.mint()]));
        probe.wait_until_ready_is(200);
        refresh.stop();
    }

    "-config": config_is_flags_or_variables {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let helper = Helper::new()
            .variable("HELPER_WORKLOAD_API_SOCKET", pod.socket())
            .variable("HELPER_SVID_PATH", pod.volume())
            .variable("HELPER_SVID_FILE_NAME", "tls.crt");
        helper.finish().succeeded();
        assert_eq!(certificates(&pod, "tls.crt"), svid.x509_svid);
        pod.helper(&["-config=helper.conf"]).finish().refused_with(&["-c", "--help"]);
    }

    "-daemon-mode": daemon_mode_flag_is_the_mode_too {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        pod.helper(&["-daemon-mode=false"]).finish().refused_with(&["-d", "--help"]);
        pod.helper(&["--mode=init"]).finish().succeeded();
        pod.wait_for(&svid);
    }

    "-version": version_is_the_flag_of_the_same_name {
        for flag in ["--version", "-V"] {
            let finished = Helper::new().argument(flag).finish().succeeded();
            assert_eq!(finished.stdout, concat!("pod-svid-helper ", env!("CARGO_PKG_VERSION"), "\n"));
        }
    }
}

/// The table for users of another tool.
fn table(name: &str) -> String {
    let path = format!("{}/manifests/recipes/{name}.md", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_row_of_the_table_has_a_test_and_every_test_a_row() {
    let table = table("from-spiffe-helper");
    let keys = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(keys.collect::<BTreeSet<_>>(), TESTED.iter().copied().collect::<BTreeSet<_>>());
}

#[test]
fn every_option_that_the_tables_name_is_in_the_help() {
    let help = Helper::new().argument("--help").finish().succeeded().stdout;
    let words = help.split_whitespace().map(|word| word.trim_end_matches(','));
    let known: BTreeSet<_> = words.filter(|word| word.starts_with("--")).collect();
    for name in ["from-spiffe-helper", "from-spire-agent"] {
        let table = table(name);
        let is_of_a_name =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let words = table.split(|letter| !is_of_a_name(letter));
        let options: BTreeSet<_> =
            words.filter(|word| word.starts_with("--") && word.contains(char::is_alphabetic)).collect();
        assert!(options.len() > 3, "{options:?}");
        assert_eq!(options.difference(&known).collect::<Vec<_>>(), [&""; 0]);
    }
}
