//! What happens, drawn from a seed.

use std::time::Duration;

/// A linear congruential generator: what it draws looks irregular, and is the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        // Neighbouring seeds begin with similar numbers.
        (0..8).for_each(|_| _ = random.below(2));
        random
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    pub fn milliseconds(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }

    pub fn microseconds(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end))
    }
}

/// A rotation, and what disturbs it.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Nothing.
    Plain,
    /// So many updates come at once; the last one counts.
    Burst(u64),
    /// The agent is away for so long, and then has something new.
    AgentAway(Away, Duration),
    /// The program is stopped at some moment of the publication, and goes on later.
    Stopped { after: Duration, lasting: Duration },
    /// The volume is full until the program has complained.
    FullDisk,
    /// The program's wall clock is so many seconds away from the true time, from now on.
    Clock(i64),
    /// It is so wrong that the SVID is not valid, until the program has complained.
    WrongClock(i64),
    /// The hook fails until the program has complained.
    HookFails,
    /// The application that is signalled is another process from now on.
    OtherApplication,
}

/// What is on the socket while the agent is away.
#[derive(Debug, Clone, Copy)]
pub enum Away {
    Nothing,
    /// Somebody listens, and never speaks.
    Silence,
    /// An agent that knows no identity yet.
    Denial,
    /// Peers whose frames are drawn from this seed.
    Nonsense(u64),
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The number of cases in [`Step::of_kind`].
pub const KINDS: u64 = 12;

impl Step {
    /// Draws one. Each kind comes once at first.
    pub fn draw(number: usize, random: &mut Random) -> Self {
        let kind = match number as u64 {
            first @ 0..KINDS => first,
            _ => match random.below(1000) {
                0..30 => 0,
                30..35 => 1,
                35..40 => 2,
                40..45 => 3,
                45..85 => 4,
                85..95 => 5,
                95..115 => 6,
                115..118 => 7,
                118..121 => 8,
                121..125 => 9,
                125..135 => 10,
                135..140 => 11,
                _ => return Self::Plain,
            },
        };
        Self::of_kind(kind, random)
    }

    fn of_kind(kind: u64, random: &mut Random) -> Self {
        match kind {
            0 => Self::Burst(2 + random.below(20)),
            1 => Self::AgentAway(Away::Nothing, random.milliseconds(500)),
            2 => Self::AgentAway(Away::Silence, random.milliseconds(500)),
            3 => Self::AgentAway(Away::Denial, random.milliseconds(300)),
            4 => Self::Stopped { after: random.microseconds(3000), lasting: random.milliseconds(60) },
            5 => Self::FullDisk,
            // The SVIDs are valid from a day ago until in three days.
            6 => Self::Clock(random.below(2 * 12 * HOUR as u64) as i64 - 12 * HOUR),
            7 => Self::WrongClock(10 * DAY),
            8 => Self::WrongClock(-10 * DAY),
            9 => Self::HookFails,
            10 => Self::OtherApplication,
            _ => Self::AgentAway(Away::Nonsense(random.below(1 << 31)), random.milliseconds(500)),
        }
    }
}
