//! A helper with many calls, and hostile peers on its agent's socket: it holds no more than its calls need, and
//! takes what a good agent says next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grpcio::RpcStatusCode;
use workload_api_server::raw::{Behaviour, RawPeer, pass_on};
use workload_api_server::server::{Reply, WorkloadApiServer};

use crate::pod::{Pod, Running, claims, offer, wait_until};
use crate::soak::growth::{Figures, more_threads};

/// One of so many connections is a good agent's, which takes a moment. When the token comes, all calls that have failed
/// meanwhile are made again at once.
const GOOD: usize = 40;
const MOMENT: Duration = Duration::from_millis(40);

/// The life of the good agent's tokens, so that the helper calls for the next.
const TTL: Duration = Duration::from_secs(2);

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How much more than at first the helper may hold: KiB; two descriptors of each connection, and C-core may still
/// hold the one before.
const MORE_MEMORY: u64 = 16 << 10;
const MORE_DESCRIPTORS_OF_A_CALL: usize = 4;
/// How many descriptors it holds when it has all tokens.
const DESCRIPTORS: u64 = 32;

pub struct Besieged {
    pod: Pod,
    refresh: Running,
    /// How many tokens it keeps: each is a call beside the others.
    tokens: usize,
    /// When it had its first tokens.
    pub first: Figures,
    pub most: Figures,
}

impl Besieged {
    /// It has its first tokens.
    pub fn begin(tokens: usize) -> Self {
        let pod = Pod::new();
        let helper = pod.helper(&["--mode=refresh", "--log-level=error"]);
        let options = (0..tokens).map(|number| format!("--jwt-svid={number}.jwt=audience"));
        let refresh = options.fold(helper, |helper, option| helper.argument(option)).start();
        let figures = Figures::of(refresh.pid(), &pod.volume());
        let mut helper = Self { pod, refresh, tokens, first: figures, most: figures };
        helper.first = helper.is_served();
        helper.most = helper.first;
        helper
    }

    /// Lets peers behave like this on so many connections, with a good agent's tokens in between.
    pub fn meets(&mut self, behaviour: Arc<Behaviour>, connections: usize) {
        let upstream = self.pod.path().join("upstream.sock");
        let agent = WorkloadApiServer::on_socket(&upstream, Reply::refuse(RpcStatusCode::UNAVAILABLE));
        self.pod.issue_jwt(&agent, TTL);
        let good = pass_on(upstream, |_| usize::MAX, Duration::ZERO);
        let (next, served) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let count = served.clone();
        let _peer = RawPeer::on_socket(
            &self.pod.socket(),
            Arc::new(move |number, connection| {
                if number % GOOD == 0 {
                    std::thread::sleep(MOMENT);
                    return good(number, connection);
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                let said = behaviour(number, connection);
                count.fetch_add(usize::from(number < connections), Ordering::Relaxed);
                said
            }),
        );
        wait_until("all connections are served", || {
            std::thread::sleep(BETWEEN_LOOKS);
            self.stays_small();
            served.load(Ordering::Relaxed) == connections
        });
    }

    /// Lets it get a new SVID and all tokens; then it holds what it needs.
    pub fn is_served(&mut self) -> Figures {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let next = self.pod.mint();
        let _agent = self.pod.agent_with_jwt(offer([next.clone()]), TTL);
        self.pod.wait_for(&next);
        let is_new = |token: &str| claims(token)["exp"].as_f64() >= Some((start + TTL).as_secs_f64());
        (0..self.tokens).for_each(|number| drop(self.pod.wait_for_file(&format!("{number}.jwt"), is_new)));
        let mut now = self.figures();
        wait_until("it holds nothing of what is over", || {
            now = self.figures();
            now.descriptors <= DESCRIPTORS
        });
        now
    }

    pub fn stop(self) {
        self.refresh.stop();
    }

    fn figures(&self) -> Figures {
        Figures::of(self.refresh.pid(), &self.pod.volume())
    }

    fn stays_small(&mut self) {
        let (now, Self { first, tokens, .. }) = (self.figures(), &*self);
        let descriptors = first.descriptors + (tokens * MORE_DESCRIPTORS_OF_A_CALL) as u64;
        assert!(now.memory <= first.memory + MORE_MEMORY, "{now}");
        assert!(now.descriptors <= descriptors, "{now}");
        assert!(now.threads <= first.threads + more_threads(), "{now}");
        self.most = self.most.max(now);
    }
}
