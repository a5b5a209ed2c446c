//! Peers that say each frame of HTTP/2 at each moment of a call, or ask for answers and never read them: the
//! helper lives on, holds nothing of what is over, and takes what a good agent says next.

use std::sync::Arc;

use workload_api_server::frames;
use workload_api_server::raw::Behaviour;

use crate::besieged::Besieged;
use crate::pod::is_emulated;

/// So many peers have a deadline of their own: a busy machine needs minutes for all.
const PEERS: usize = 1000;

/// Lets the helper meet so many of each peer.
fn does_no_harm(tokens: usize, peers: impl IntoIterator<Item = (Arc<Behaviour>, usize)>) {
    if is_emulated("memory, descriptors and threads") {
        return;
    }
    let mut helper = Besieged::begin(tokens);
    for (behaviour, connections) in peers {
        helper.meets(behaviour, connections);
    }
    let now = helper.is_served();
    println!("at first: {}; at most: {}; now: {now}", helper.first, helper.most);
    helper.stop();
}

#[test]
fn every_kind_of_frame_with_every_flag_at_every_moment_does_no_harm() {
    let speeches = frames::all();
    let peers = speeches.chunks(PEERS).map(|speeches| -> (Arc<Behaviour>, usize) {
        let (speeches, connections) = (speeches.to_vec(), speeches.len());
        let say = move |number: usize, connection| speeches[number % connections].say(connection);
        (Arc::new(say), connections)
    });
    does_no_harm(64, peers);
}

#[test]
fn nothing_is_left_of_a_call_whose_peer_asks_for_answers_and_never_reads_them() {
    does_no_harm(16, [(frames::ask_and_never_read(), 48)]);
}
