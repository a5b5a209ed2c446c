//! Upgrades and rollbacks: an earlier binary (`OLD_BINARY`) and this one, in turn or at once, on one directory. Each
//! test does it in both orders and in each kind of directory. `make upgrades` runs them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::Recipe;
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, wit_bundles, wit_response};

use crate::mounts::ProtectedSymlinks;
use crate::pod::{
    App, EVERYTHING, Finished, Helper, ID, OTHER_ID, PATIENCE, Pod, Published, Running, SetWhenDropped,
    is_root, names, offer, serial, wait_until,
};
use crate::publication::while_reading;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    Old,
    New,
}

use Version::{New, Old};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// The helper's own directory.
    Own,
    /// The same, with files that the helper gives to another user. Needs root.
    Given,
    /// Another user's sticky directory that all may write to. Needs root.
    Sticky,
}

/// All files that both versions can write.
const KEYSTORES: [&str; 2] = ["--keystore-file-name=svid.p12", "--truststore-file-name=trust.p12"];
/// What only the new one can write.
const NEW_FILES: [&str; 5] = [
    "--bundle-map-file-name=map.json",
    "--crl-file-name=crl.pem",
    "--wit-svid-file-name=wit.jwt",
    "--wit-key-file-name=wit.jwk",
    "--wit-bundle-file-name=wit.json",
];
const HELD: [&str; 2] = ["another helper that is running publishes", "a directory of its own"];
/// The files of both versions, without a token: `init` fetches a new one each time.
fn files() -> Vec<&'static str> {
    let everything = EVERYTHING.into_iter().filter(|option| !option.starts_with("--jwt-svid="));
    everything.chain(KEYSTORES).collect()
}

/// A pod whose volume is of one kind, for helpers of two versions.
struct Case {
    pod: Pod,
    kind: Kind,
    _setting: Option<ProtectedSymlinks>,
}

/// Does it in each kind of directory that can be had here, in both orders.
fn everywhere(test: fn(&Case, Version, Version)) {
    for kind in [Kind::Own, Kind::Given, Kind::Sticky] {
        if kind != Kind::Own && !is_root() {
            crate::pod::skip(&format!("{kind:?}: only root can become another user"));
            continue;
        }
        for (first, second) in [(Old, New), (New, Old)] {
            println!("{kind:?}: {first:?}, then {second:?}");
            test(&Case::new(kind), first, second);
        }
    }
}

impl Case {
    fn new(kind: Kind) -> Self {
        let pod = Pod::new();
        let is_sticky = kind == Kind::Sticky;
        if is_sticky {
            std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777))
                .expect("its permissions");
        }
        Self { pod, kind, _setting: is_sticky.then(ProtectedSymlinks::set).flatten() }
    }

    fn helper(&self, version: Version, arguments: &[&str]) -> Helper {
        let helper = self.pod.helper(arguments);
        self.of(
            version,
            if self.kind == Kind::Given { helper.argument("--file-owner=65534:65534") } else { helper },
        )
    }

    fn of(&self, version: Version, helper: Helper) -> Helper {
        let old =
            || std::env::var_os("OLD_BINARY").map(PathBuf::from).expect("OLD_BINARY: see make upgrades");
        let helper = if version == Old { helper.of(&old()) } else { helper };
        if self.kind == Kind::Sticky { helper.run_by_nobody() } else { helper }
    }

    fn init(&self, version: Version, arguments: &[&str]) -> Finished {
        self.helper(version, arguments).argument("--mode=init").finish()
    }

    fn refresh(&self, version: Version, arguments: &[&str]) -> Running {
        self.helper(version, arguments).argument("--mode=refresh").start()
    }

    /// Lets both versions check what is published.
    fn check(&self, arguments: &[&str]) {
        for version in [Old, New] {
            let path = format!("--svid-path={}", self.pod.volume().display());
            let check = Helper::new().argument("--mode=check").argument(path).arguments(arguments);
            self.of(version, check).finish().succeeded();
        }
    }

    /// An agent that has something for each file.
    fn agent(&self, svid: &X509SVID) -> WorkloadApiServer {
        let agent = self.pod.agent_with_jwt(self.pod.offer_everything(svid), Duration::from_secs(3600));
        agent.reply_with_wit(wit_response([WitRecipe::for_id(ID).mint(&self.pod.authority)]));
        agent.reply_with_wit_bundles(wit_bundles([("spiffe://example.org", r#"{"keys":[]}"#)]));
        agent
    }

    fn app(&self) -> App {
        if self.kind == Kind::Sticky {
            App::start_by_nobody(&self.pod, "app")
        } else {
            App::start(&self.pod, "app")
        }
    }

    /// What `..data` leads to.
    fn data(&self) -> PathBuf {
        std::fs::read_link(self.pod.volume().join("..data")).expect("a link")
    }

    /// All that is in the volume and in the published set, with kinds, modes and owners.
    fn listing(&self) -> Vec<String> {
        let list = |directory: &Path| {
            let entries =
                std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
            let mut shown: Vec<_> = entries
                .map(|entry| {
                    let (name, meta) =
                        (entry.file_name().into_string().expect("UTF-8"), entry.metadata().expect("it"));
                    let name = if meta.is_dir() { "a directory" } else { &name };
                    format!("{name} {:o} {}:{}", meta.mode(), meta.uid(), meta.gid())
                })
                .collect();
            shown.sort();
            shown
        };
        [list(&self.pod.volume()), list(&self.pod.volume().join(self.data()))].concat()
    }

    /// The names that readers open, and whatever is left over.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.pod.volume()).expect("a directory");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        let data = self.data();
        let of_the_set = [Path::new("..data"), &data];
        let mut names: Vec<_> =
            entries.map(name).filter(|name| !of_the_set.contains(&Path::new(name))).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().expect("UTF-8")).collect()
    }

    /// Reads the set meanwhile. Where the names are files, each of them can be opened all the time.
    fn while_reading(&self, svids: &[X509SVID], meanwhile: impl FnOnce()) {
        let done = AtomicBool::new(self.kind != Kind::Sticky);
        let read_names = || {
            while !done.load(Ordering::Relaxed) {
                Published::by_name(&self.pod.volume()).expect("each name");
            }
        };
        while_reading(&self.pod, svids, || {
            std::thread::scope(|scope| {
                let done = SetWhenDropped(&done);
                let reader = scope.spawn(read_names);
                meanwhile();
                drop(done);
                reader.join().expect("a reader that finds each name");
            })
        });
    }
}

/// The names of the PEM files alone.
const PEM: [&str; 3] = ["bundle.pem", "svid-key.pem", "svid.pem"];

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn a_set_of_one_version_is_good_to_the_other_which_leaves_it_and_replaces_it_with_the_next() {
    everywhere(|case, first, second| {
        let svids = [case.pod.mint(), case.pod.mint()];
        let agent = case.agent(&svids[0]);
        case.init(first, &files()).succeeded();
        case.pod.wait_for(&svids[0]);
        case.check(&files());
        let (listing, data) = (case.listing(), case.data());
        case.init(second, &files()).succeeded();
        assert_eq!(case.data(), data, "the second one has published the same again");
        agent.reply(case.pod.offer_everything(&svids[1]));
        case.init(second, &files()).succeeded();
        case.pod.wait_for(&svids[1]);
        case.check(&files());
        assert_eq!(case.listing(), listing);
        // With a token.
        let all = [&files()[..], &EVERYTHING[3..4]].concat();
        case.init(first, &all).succeeded();
        let listing = case.listing();
        case.check(&all);
        case.init(second, &all).succeeded();
        assert_eq!(case.listing(), listing);
        case.check(&all);
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn after_a_kill_the_other_version_takes_over_and_signals_the_application() {
    everywhere(|case, first, second| {
        let svids = [(); 3].map(|()| case.pod.mint());
        let agent = case.agent(&svids[0]);
        let app = case.app();
        let pid_file = case.pod.pid_file(app.pid());
        let refresh = case.refresh(first, &[&pid_file]);
        app.wait_for_signals(&["HUP"]);
        case.while_reading(&svids, || {
            agent.reply(offer([svids[1].clone()]));
            case.pod.wait_for(&svids[1]);
            app.wait_for_signals(&["HUP"; 2]);
            drop(refresh);
            let refresh = case.refresh(second, &[&pid_file]);
            // The new version signals once for the files that stand at its start.
            let signals = if second == New { 3 } else { 2 };
            app.wait_for_signals(&vec!["HUP"; signals]);
            agent.reply(offer([svids[2].clone()]));
            case.pod.wait_for(&svids[2]);
            app.wait_for_signals(&vec!["HUP"; signals + 1]);
            refresh.stop();
            app.has_got(&vec!["HUP"; signals + 1]);
        });
        case.pod.holds_one_set();
        // The old version knows nothing of claims to identities, and leaves that of the killed one.
        let left: &[_] = if second == Old { &["..identity"] } else { &[] };
        assert_eq!(case.names(), [left, &PEM].concat());
        case.init(New, &[]).succeeded();
        assert_eq!(case.names(), PEM);
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn a_running_helper_keeps_the_other_version_with_other_names_out() {
    everywhere(|case, first, second| {
        let svid = case.pod.mint();
        let _agent = case.agent(&svid);
        for arguments in [&[][..], &files()] {
            case.init(first, arguments).succeeded();
            let mut refresh = case.refresh(first, arguments);
            refresh.wait_for_log(&[ID, "nothing written"]);
            let (names, data) = (case.names(), case.data());
            let other = [arguments, &["--svid-file-name=tls.crt"]].concat();
            case.init(second, &other).failed_with(&[HELD[0], "svid.pem", HELD[1]]);
            assert_eq!((case.names(), case.data()), (names, data));
            refresh.stop();
        }
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn two_running_helpers_of_both_versions_with_the_same_names_publish_each_set_once() {
    const ROTATIONS: usize = 20;
    everywhere(|case, first, second| {
        let svids: Vec<_> = (0..=ROTATIONS).map(|_| case.pod.mint()).collect();
        let agent = case.agent(&svids[0]);
        let mut helpers = [first, second].map(|version| case.refresh(version, &files()));
        // Each of them has published it, or found it there.
        let mut wait_for = |svid: &X509SVID| {
            let serial = format!("{ID} (serial {},", serial(svid));
            helpers.iter_mut().for_each(|helper| drop(helper.wait_for_log(&[&serial])));
        };
        wait_for(&svids[0]);
        case.while_reading(&svids, || {
            for svid in &svids[1..] {
                agent.reply(case.pod.offer_everything(svid));
                wait_for(svid);
            }
        });
        let logs = helpers.map(Running::stop).concat();
        let published = logs.iter().filter(|line| line.contains(&format!("published {ID} (serial")));
        assert_eq!(published.count(), svids.len(), "{}", logs.join("\n"));
        case.check(&files());
        case.pod.holds_one_set();
        // One that ends while the other publishes leaves the file of its claim, which nobody holds.
        case.init(New, &files()).succeeded();
        assert!(!case.names().iter().any(|name| name.starts_with("..")), "{:?}", case.names());
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn names_that_one_version_no_longer_has_are_those_of_the_other_that_go() {
    everywhere(|case, first, second| {
        let svid = case.pod.mint();
        let _agent = case.agent(&svid);
        std::fs::write(case.pod.volume().join("mine.txt"), "mine").expect("a file");
        case.init(first, &[&files()[..], &EVERYTHING[3..4]].concat()).succeeded();
        let renamed = ["--svid-file-name=tls.crt", "--keystore-file-name=svid.p12"];
        case.init(second, &renamed).succeeded();
        assert_eq!(case.names(), ["bundle.pem", "mine.txt", "svid-key.pem", "svid.p12", "tls.crt"]);
        assert_eq!(case.pod.read("mine.txt"), "mine");
        case.check(&renamed);
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn a_rollback_removes_the_files_of_new_options_and_the_next_upgrade_writes_them_again() {
    everywhere(|case, _, _| {
        let svids = [case.pod.mint(), case.pod.mint()];
        let agent = case.agent(&svids[0]);
        let all = [&files()[..], &NEW_FILES].concat();
        case.init(Old, &files()).succeeded();
        let old = case.listing();
        case.init(New, &all).succeeded();
        let new = case.listing();
        assert!(new.len() > old.len());
        agent.reply(case.pod.offer_everything(&svids[1]));
        case.init(Old, &files()).succeeded();
        case.pod.wait_for(&svids[1]);
        assert_eq!(case.listing(), old);
        case.check(&files());
        case.init(New, &all).succeeded();
        assert_eq!(case.listing(), new);
        case.check(&files());
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn a_claim_to_an_identity_keeps_the_new_version_out_and_not_the_old_one() {
    everywhere(|case, _, _| {
        let [svid, other] = [ID, OTHER_ID].map(|id| case.pod.authority.mint(&Recipe::for_id(id)));
        let _agent = case.pod.agent(offer([svid.clone(), other.clone()]));
        let [own, others] = [ID, OTHER_ID].map(|id| format!("--pod-spiffe-id={id}"));
        let refresh = case.refresh(New, &[&own]);
        case.pod.wait_for(&svid);
        case.init(New, &[&others]).failed_with(&[HELD[0], ID, HELD[1]]);
        case.init(Old, &[&own]).succeeded();
        case.pod.wait_for(&svid);
        assert_eq!(case.names(), [&["..identity", "..names"], &PEM[..]].concat());
        case.init(New, &[&others]).failed_with(&[HELD[0], ID, HELD[1]]);
        // Killed: nobody holds it, whatever its file says.
        drop(refresh);
        let refresh = case.refresh(Old, &[&others]);
        case.pod.wait_for(&other);
        case.init(New, &[&others]).succeeded();
        refresh.stop();
        case.pod.wait_for(&other);
        assert_eq!(case.names(), PEM);
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn an_identity_that_is_withdrawn_takes_the_files_of_the_other_version_along() {
    everywhere(|case, first, second| {
        let svid = case.pod.mint();
        let agent = case.agent(&svid);
        case.init(first, &files()).succeeded();
        let refused = Reply::Refuse(RpcStatusCode::PERMISSION_DENIED, "no identity issued".to_owned());
        let mut refresh = case.refresh(second, &[&files()[..], &["--on-revoked=remove"]].concat());
        refresh.wait_for_log(&[ID, "nothing written"]);
        agent.wait_for_calls(2, PATIENCE);
        agent.reply(refused);
        refresh.wait_for_log(&["ERROR", "withdrawn the identity"]);
        wait_until("the set is gone", || names(&case.pod.volume()).is_empty());
        agent.reply(case.pod.offer_everything(&svid));
        case.pod.wait_for(&svid);
        refresh.stop();
        case.pod.holds_one_set();
    });
}

#[test]
#[ignore = "needs an earlier binary: make upgrades"]
fn versions_that_are_killed_at_any_moment_leave_a_complete_set_to_each_other() {
    const KILLS: usize = 40;
    everywhere(|case, first, second| {
        let svids: Vec<_> = (0..=KILLS).map(|_| case.pod.mint()).collect();
        let agent = case.agent(&svids[0]);
        case.init(first, &files()).succeeded();
        case.while_reading(&svids, || {
            for kill in 1..=KILLS {
                agent.reply(case.pod.offer_everything(&svids[kill]));
                let refresh = case.refresh([first, second][kill % 2], &files());
                agent.wait_for_calls(kill as u64 + 1, PATIENCE);
                // A different moment of the publication each time.
                std::thread::sleep(Duration::from_micros(kill as u64 * 250));
                drop(refresh);
            }
        });
        case.init(second, &files()).succeeded();
        case.pod.wait_for(&svids[KILLS]);
        case.pod.holds_one_set();
        case.check(&files());
    });
}
