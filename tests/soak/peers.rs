//! Minutes of random peers, with a good agent now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use workload_api_server::frames::{Speech, ask_and_never_read};
use workload_api_server::raw::Behaviour;

use super::plan::Random;
use crate::besieged::Besieged;

/// How many tokens the helper keeps: each is a call beside the others.
const TOKENS: usize = 64;
/// How many connections there are between two good agents.
const CONNECTIONS: usize = 2000;
/// How often the run says how far it is.
const PROGRESS: Duration = Duration::from_secs(60);

/// What each connection's peer says is drawn from the seed and the connection's number. One of a hundred never
/// reads the answers that it asks for.
pub fn random_peers(seed: u64) -> Arc<Behaviour> {
    let ask_and_never_read = ask_and_never_read();
    Arc::new(move |number, connection| {
        let mut random = Random::new(seed.wrapping_add(number as u64));
        match random.below(100) {
            0 => ask_and_never_read(number, connection),
            _ => Speech::draw(&mut |end| random.below(end)).say(connection),
        }
    })
}

pub fn meet(seed: u64, minutes: u64) {
    eprintln!("peers: make soak SEED={seed} MINUTES={minutes}");
    let (start, end) = (Instant::now(), Duration::from_secs(60 * minutes));
    let mut helper = Besieged::begin(TOKENS);
    let (mut agents, mut told) = (0, start);
    loop {
        helper.meets(random_peers(seed.wrapping_add(agents << 32)), CONNECTIONS);
        let now = helper.is_served();
        agents += 1;
        let is_over = start.elapsed() >= end;
        if is_over || told.elapsed() >= PROGRESS {
            told = Instant::now();
            let (peers, seconds) = (agents * CONNECTIONS as u64, start.elapsed().as_secs());
            eprintln!(
                "peers: {peers} in {seconds} s, {agents} good agents; now {now}; at most {}",
                helper.most
            );
        }
        if is_over {
            break;
        }
    }
    eprintln!("peers: seed {seed}; at first: {}", helper.first);
    helper.stop();
}
