//! Years in minutes: the main loop of `refresh` and `run` on a clock that jumps from deadline to deadline.
//!
//! Real are the loop and all below it: the calls, the checks, the store in a directory, the notifications, the log.
//! Simulated are the clocks, the agent's answers and all other processes: the one that is signalled, the hook, the
//! application. All that happens is drawn from a seed. After each turn, `watch.rs` and `told.rs` look whether a promise
//! is broken.

mod agent;
mod children;
mod disk;
mod events;
mod lines;
mod manners;
mod record;
mod told;
mod trouble;
mod watch;
mod wit;
mod world;

use std::num::NonZero;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent::{Flaw, Mood, RPCS, Rpc};
use record::Tally;
use trouble::Trouble;
use world::World;

/// Days of a long run, for each seed.
const LONG: u32 = 365;

#[test]
fn simulation_of_a_fixed_seed_keeps_every_promise() {
    println!("{}", World::simulate(1, |world| world.run(3, None)));
}

#[test]
fn simulation_of_a_random_seed_keeps_every_promise() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = u64::from(now.subsec_nanos());
    println!("seed {seed}");
    let until = Some(Instant::now() + Duration::from_secs(2));
    println!("{}", World::simulate(seed, |world| world.run(LONG, until)));
}

#[test]
#[ignore = "takes minutes: make simulate"]
fn simulation_of_many_seeds_keeps_every_promise() {
    let first = variable("SIMULATE_SEED").unwrap_or(1);
    let days = variable("SIMULATE_DAYS").map_or(LONG, |days| days as u32);
    let seeds = Mutex::new(first..first + variable("SIMULATE_SEEDS").unwrap_or(4));
    let all = Mutex::new(Tally::default());
    let next = || seeds.lock().unwrap().next();
    // Each simulation has a thread: clock, processes and log lines are those of its thread.
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let tally = catch_unwind(|| World::simulate(seed, |world| world.run(days, None)));
                    let tally = tally.unwrap_or_else(|broken| {
                        // The other threads begin no more.
                        *seeds.lock().unwrap() = 0..0;
                        resume_unwind(broken)
                    });
                    println!("seed {seed}: {tally}");
                    all.lock().unwrap().add_all(&tally);
                }
            });
        }
    });
    println!("simulated: {}", all.into_inner().unwrap());
}

#[test]
fn simulation_of_an_agent_with_an_expired_svid_alone_calls_it_once_a_minute() {
    World::simulate(1, |world| {
        world.agent.0.borrow_mut().set_mood(Rpc::X509, Mood::Bad(Flaw::Expired));
        world.trouble = Some(Trouble::Mood(Mood::Bad(Flaw::Expired), Some(Rpc::X509)));
        world.pass(Duration::from_secs(10 * 60), None);
        assert!((9..=11).contains(&world.agent.0.borrow().counts[Rpc::X509 as usize]));
    });
}

#[test]
fn simulation_of_an_identity_that_stays_withdrawn_has_a_reminder_every_few_minutes() {
    // The agent offers another identity than that of the options, on a stream that stays open.
    let has_reminder = |seed: &u64| {
        let mut has_id = false;
        World::simulate(*seed, |world| {
            world.pass(Duration::from_secs(60), None);
            has_id = world.has_id();
            lines::take_told(lines::WITHDRAWN);
            world.trouble = Some(Trouble::Mood(Mood::Partial, None));
            RPCS.into_iter().for_each(|rpc| world.agent.0.borrow_mut().set_mood(rpc, Mood::Partial));
            world.pass(Duration::from_secs(31 * 60), None);
            let times = lines::take_told(lines::WITHDRAWN);
            assert!(!has_id || (3..=31).contains(&times), "{times}");
        });
        has_id
    };
    assert!((1..20).any(|seed| has_reminder(&seed)));
}

/// A number in a variable; an empty one counts as unset.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
