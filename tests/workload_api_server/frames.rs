//! Frames of HTTP/2 that are right, wrong or out of place, at each moment of a call: all of a table, or as they
//! are drawn.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::raw::{
    ACK, ALTSVC, Behaviour, CONTINUATION, DATA, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, ORIGIN, PADDED,
    PING, PRIORITY, PRIORITY_UPDATE, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, good_head,
    greeting, head, header_block, message, read_request,
};

/// When the frame comes: after so much of a good conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Moment {
    Connected,
    Greeted,
    Asked,
    /// The helper's settings are acknowledged: its limits are in force.
    Acknowledged,
    /// The call goes on, and the connection takes no other.
    GoneAway,
    /// The header block is open: CONTINUATION is to come.
    HeadBegun,
    HeadSaid,
    MessageSaid,
    Ended,
}

const MOMENTS: [Moment; 9] = [
    Moment::Connected,
    Moment::Greeted,
    Moment::Asked,
    Moment::Acknowledged,
    Moment::GoneAway,
    Moment::HeadBegun,
    Moment::HeadSaid,
    Moment::MessageSaid,
    Moment::Ended,
];

/// All of HTTP/2 and its extensions, and one that is none.
const KINDS: [u8; 14] = [
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
    ALTSVC,
    ORIGIN,
    PRIORITY_UPDATE,
    99,
];

/// None, each, and all.
const FLAGS: [u8; 10] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 255];

/// The connection, the call, and one that was never opened.
const STREAMS: [u32; 3] = [0, 1, 3];

/// How long a flood may wait for the helper to read on.
const FLOOD: Duration = Duration::from_secs(1);

/// Some frames at a moment; then the peer hangs up.
#[derive(Debug, Clone)]
pub struct Speech {
    moment: Moment,
    frames: Vec<u8>,
}

/// Each kind with each flag at each moment on each stream: whole, and a byte shorter.
pub fn all() -> Vec<Speech> {
    let mut all = Vec::new();
    for (moment, kind) in MOMENTS.into_iter().flat_map(|moment| KINDS.map(|kind| (moment, kind))) {
        for (flags, stream) in FLAGS.into_iter().flat_map(|flags| STREAMS.map(|stream| (flags, stream))) {
            let payload = payload(kind, flags);
            let payloads = [&payload[..], &payload[..payload.len() - 1]];
            all.extend(
                payloads.map(|payload| Speech { moment, frames: frame(kind, flags, stream, payload) }),
            );
        }
    }
    all
}

/// Pings, the end of the call, and more pings until the helper hangs up: it has to acknowledge all of them, and no
/// acknowledgement is read.
pub fn ask_and_never_read() -> Arc<Behaviour> {
    let ping = frame(PING, 0, 0, &[0; 8]);
    // There is room for thousands of answers in the socket; and C-core reads no further once 10,000 more wait.
    let flood = [greeting(), ping.repeat(11_000), trailers("14")].concat();
    Arc::new(move |_, mut connection| {
        read_request(&mut connection)?;
        connection.write_all(&flood)?;
        loop {
            connection.write_all(&ping)?;
        }
    })
}

/// The end of a call.
fn trailers(status: &str) -> Vec<u8> {
    head(END_STREAM, &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)])
}

/// The fields of a good head.
fn block() -> Vec<u8> {
    header_block(&[(":status", "200"), ("content-type", "application/grpc")])
}

/// What a frame of this kind holds.
fn payload(kind: u8, flags: u8) -> Vec<u8> {
    let rest = match kind {
        // An empty message.
        DATA | PRIORITY => vec![0; 5],
        HEADERS | CONTINUATION => block(),
        RST_STREAM => vec![0, 0, 0, 2],
        // The least window.
        SETTINGS => vec![0, 4, 0, 0, 0, 0],
        PUSH_PROMISE => [vec![0, 0, 0, 2], block()].concat(),
        WINDOW_UPDATE => vec![0, 0, 0, 1],
        ALTSVC => b"\0\0clear".to_vec(),
        ORIGIN => b"\0\x0ehttps://a.test".to_vec(),
        PRIORITY_UPDATE => b"\0\0\0\x01u=1".to_vec(),
        _ => vec![0; 8],
    };
    let has = |flag| flags & flag != 0;
    let padded = has(PADDED) && [DATA, HEADERS, PUSH_PROMISE].contains(&kind);
    let prefix = usize::from(padded) + 5 * usize::from(has(HAS_PRIORITY) && kind == HEADERS);
    [vec![0; prefix], rest].concat()
}

impl Moment {
    /// What the peer has said until then.
    fn before(self) -> Vec<u8> {
        let after_greeting = match self {
            Self::Connected => return Vec::new(),
            Self::Greeted | Self::Asked => Vec::new(),
            Self::Acknowledged => frame(SETTINGS, ACK, 0, &[]),
            // The last stream is the call's; NO_ERROR.
            Self::GoneAway => frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
            Self::HeadBegun => frame(HEADERS, 0, 1, &block()),
            Self::HeadSaid => good_head(),
            Self::MessageSaid => [good_head(), message(false, &[])].concat(),
            Self::Ended => {
                let end = head(END_STREAM, &[("grpc-status", "0")]);
                [good_head(), message(false, &[]), end].concat()
            }
        };
        [greeting(), after_greeting].concat()
    }
}

impl Speech {
    /// One to three frames, or thousands of the same; `below` draws a number below another. While thousands are
    /// said, none of the answers is read.
    pub fn draw(below: &mut impl FnMut(u64) -> u64) -> Self {
        let moment = MOMENTS[below(MOMENTS.len() as u64) as usize];
        let mut frames = Vec::new();
        for _ in 0..=below(3) {
            frames.extend(draw_frame(below));
        }
        if below(20) == 0 {
            frames = frames.repeat(1 + below(10_000) as usize);
        }
        Self { moment, frames }
    }

    /// Says it, and hangs up. A helper that has heard enough may be gone before the end, or read no further.
    pub fn say(&self, mut connection: UnixStream) -> std::io::Result<()> {
        if self.moment >= Moment::Asked {
            read_request(&mut connection)?;
        }
        connection.set_write_timeout(Some(FLOOD))?;
        let said = connection.write_all(&[&self.moment.before()[..], &self.frames].concat());
        connection.shutdown(Shutdown::Write).and(said)
    }
}

fn draw_frame(below: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
    let kind = KINDS[below(KINDS.len() as u64) as usize];
    let flags = match below(2) {
        0 => FLAGS[below(FLAGS.len() as u64) as usize],
        _ => below(256) as u8,
    };
    let stream = match below(8) {
        0 => below(1 << 32) as u32,
        few => STREAMS[few as usize % STREAMS.len()],
    };
    let mut payload = payload(kind, flags);
    match below(4) {
        0 => payload.resize(below(64) as usize, 0),
        1 => payload = (0..below(64)).map(|_| below(256) as u8).collect(),
        2 => payload.iter_mut().for_each(|byte| {
            if below(8) == 0 {
                *byte = below(256) as u8
            }
        }),
        _ => {}
    }
    frame(kind, flags, stream, &payload)
}
