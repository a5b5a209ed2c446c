//! An agent's socket, a directory for the files, and what the agent says.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use der::pem::{LineEnding, encode_string};
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, JWTSVIDRequest, X509SVIDResponse};
use pod_svid_helper::for_tests::{MAX_BUNDLE, MAX_MESSAGE_MIB};
use protobuf::Message;
use workload_api_server::authority::{Authority, Recipe, jwt_response};
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, wit_bundles, wit_response};

const ID: &str = "spiffe://example.org/workload";
/// How long a program may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at the files.
const LOOK: Duration = Duration::from_micros(50);

pub struct Pod {
    directory: tempfile::TempDir,
    socket: PathBuf,
    authority: Authority,
}

/// How a file shows that it holds a certificate: the first line of its PEM, in which is the serial number.
pub struct Certificate(String);

impl Certificate {
    fn of(der: &[u8]) -> Self {
        let pem = encode_string("CERTIFICATE", LineEnding::LF, der).expect("PEM");
        Self(pem.lines().nth(1).expect("a line").to_owned())
    }
}

impl Pod {
    pub fn in_directory(parent: &Path) -> Self {
        let directory = tempfile::tempdir_in(parent).expect("a directory");
        let socket = directory.path().join("agent.sock");
        let pod = Self { directory, socket, authority: Authority::new("example.org") };
        fs::create_dir(pod.volume()).expect("a volume");
        pod
    }

    /// One more on the node of `self`, with the same agent.
    pub fn neighbour(&self, parent: &Path) -> Self {
        Self { socket: self.socket.clone(), ..Self::in_directory(parent) }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn volume(&self) -> PathBuf {
        self.directory.path().join("svids")
    }

    pub fn remove_volume(&self) {
        // The helper may be at work there.
        while fs::remove_dir_all(self.volume()).is_err() {}
    }

    pub fn clear(&self) {
        self.remove_volume();
        fs::create_dir(self.volume()).expect("a volume");
    }

    /// With all kinds of SVIDs, and their keys.
    pub fn agent(&self) -> WorkloadApiServer {
        self.next_agent().0
    }

    /// The same, with the certificate that it offers.
    pub fn next_agent(&self) -> (WorkloadApiServer, Certificate) {
        let (reply, certificate) = self.update(1, 0);
        let mut bundles = JWTBundlesResponse::new();
        bundles.bundles.insert(self.authority.id(), self.authority.jwks());
        let wit = wit_response([WitRecipe::for_id(ID).mint(&self.authority)]);
        let wit_keys = wit_bundles([(self.authority.id().as_str(), r#"{"keys":[]}"#)]);
        let agent = WorkloadApiServer::on_socket_after(self.socket(), reply, |agent| {
            agent.issue_jwt(self.tokens(Duration::from_secs(3600)));
            agent.reply_with_jwt_bundles(Reply::offer(&bundles));
            agent.reply_with_wit(wit);
            agent.reply_with_wit_bundles(wit_keys);
        });
        (agent, certificate)
    }

    /// Answers calls for tokens with one that has this life.
    pub fn tokens(&self, ttl: Duration) -> impl Fn(&JWTSVIDRequest) -> Reply + Send + Sync + 'static {
        let token = self.authority.mint_jwt(ID, &["audience".to_owned()], ttl);
        move |_| Reply::offer(&jwt_response([token.clone()]))
    }

    /// New SVIDs, with the bundles of so many federated trust domains of three CAs each.
    pub fn update(&self, svids: usize, bundles: usize) -> (Reply, Certificate) {
        let ids = (0..svids).map(|number| match number {
            0 => Recipe::for_id(ID),
            number => Recipe::for_id(&format!("{ID}/{number}")),
        });
        let mut response = self.authority.response(&ids.collect::<Vec<_>>());
        response.crl = vec![self.authority.crl()];
        for number in 0..bundles {
            let key = format!("spiffe://{number}.example.org");
            response.federated_bundles.insert(key, self.authority.bundle().repeat(3));
        }
        reply(&response)
    }

    /// As large as a response may be: a full bundle, and federated bundles.
    pub fn largest(&self) -> (Reply, Certificate) {
        let mut response = self.authority.response([&Recipe::for_id(ID)]);
        response.svids[0].bundle = self.authority.bundle().repeat(MAX_BUNDLE);
        let bundle = self.authority.bundle().repeat(500);
        let left = ((MAX_MESSAGE_MIB as u64) << 20) - response.compute_size();
        for number in 0..left / (bundle.len() as u64 + 64) {
            response.federated_bundles.insert(format!("spiffe://{number}.example.org"), bundle.clone());
        }
        reply(&response)
    }

    /// Waits until there is a key and a certificate.
    pub fn wait_for_files(&self) {
        self.wait(|files| {
            ["PRIVATE KEY-----", "CERTIFICATE-----"]
                .iter()
                .all(|what| files.iter().any(|file| file.contains(what)))
        });
    }

    pub fn wait_for(&self, certificate: &Certificate) {
        self.wait(|files| files.iter().any(|file| file.contains(&certificate.0)));
    }

    fn wait(&self, is_there: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Bundles of many trust domains are not looked at.
            let entries = fs::read_dir(self.volume()).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.path()).filter(|path| {
                path.extension().is_some_and(|end| end == "pem" || end == "crt" || end == "key")
                    && !path.to_string_lossy().contains(".example.org.")
            });
            let files: Vec<_> = names.filter_map(|path| fs::read_to_string(path).ok()).collect();
            if is_there(&files) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "nothing new in {} after {PATIENCE:?}",
                self.volume().display()
            );
            sleep(LOOK);
        }
    }
}

fn reply(response: &X509SVIDResponse) -> (Reply, Certificate) {
    // The leaf is the first; the rest of the chain does not change the first line.
    (Reply::offer(response), Certificate::of(&response.svids[0].x509_svid))
}
