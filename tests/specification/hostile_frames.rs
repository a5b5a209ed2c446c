//! Peers that say each frame of HTTP/2 at each moment of a call, or ask for answers and never read them: the
//! helper lives on, holds nothing of what is over, and takes what a good agent says next.

use std::sync::Arc;

use workload_api_server::frames;
use workload_api_server::raw::Behaviour;

use crate::besieged::Besieged;
use crate::pod::is_emulated;

fn does_no_harm(tokens: usize, behaviour: Arc<Behaviour>, connections: usize) {
    if is_emulated("memory, descriptors and threads") {
        return;
    }
    let mut helper = Besieged::begin(tokens);
    helper.meets(behaviour, connections);
    let now = helper.is_served();
    println!("{connections} connections; at first: {}; at most: {}; now: {now}", helper.first, helper.most);
    helper.stop();
}

#[test]
fn every_kind_of_frame_with_every_flag_at_every_moment_does_no_harm() {
    let speeches = frames::all();
    let connections = speeches.len();
    let say = move |number: usize, connection| speeches[number % speeches.len()].say(connection);
    does_no_harm(64, Arc::new(say), connections);
}

#[test]
fn nothing_is_left_of_a_call_whose_peer_asks_for_answers_and_never_reads_them() {
    does_no_harm(16, frames::ask_and_never_read(), 48);
}
