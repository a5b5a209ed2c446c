//! What happens in a simulation, and when.

use std::fs;
use std::time::{Duration, Instant};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;

use super::agent::{Flaw, Mood, RPCS, Rpc};
use super::children::Process;
use super::record::Count;
use super::trouble::{DAY, Event, GRACE, HOUR, MINUTE, SECOND, Trouble, below, between};
use super::world::World;
use crate::process::child::ExitStatus;
use crate::process::facts::Reaction;
use crate::process::signal::SignalNumber;
use crate::store::simulated::{DISK, Disk};
use crate::time::timing::{CALL_AGAIN, FIRST_SET, LONGEST_SLEEP};
use crate::wait::{ReceivedSignal, Sender};

impl World<'_> {
    /// Simulates so many days in which everything happens, but no longer than to a moment of the real clock.
    pub(super) fn run(&mut self, days: u32, until: Option<Instant>) {
        for (event, most) in [
            (Event::Process, MINUTE),
            (Event::OtherLives, SECOND),
            (Event::Trouble, HOUR),
            (Event::Restart, DAY),
            (Event::ClockStep, 2 * DAY),
            (Event::DiskFault, DAY),
            (Event::CaRotation, DAY),
            (Event::KeyRotation, DAY),
            (Event::KeyChange, DAY),
            (Event::Signal, DAY),
        ] {
            self.plan(event, between(SECOND / 2, most));
        }
        self.plan_rotation();
        self.plan_wit_rotation();
        self.pass(DAY * days, until);
    }

    /// The agent looks every few seconds whether it is time.
    pub(super) fn plan_rotation(&mut self) {
        self.plans.retain(|(_, event)| *event != Event::Rotation);
        let at = self.agent.0.borrow().rotates_at();
        let is_early = self.agent.0.borrow().newest().not_before > self.now.time;
        let wait = if is_early { Duration::ZERO } else { self.now.until(at) };
        self.plan(Event::Rotation, wait + between(SECOND / 10, 5 * SECOND));
    }

    pub(super) fn plan_wit_rotation(&mut self) {
        self.plans.retain(|(_, event)| *event != Event::WitRotation);
        let (issued, half) = {
            let agent = self.agent.0.borrow();
            (agent.newest_pair().issued, agent.newest_pair().half())
        };
        let wait = if issued > self.now.time { Duration::ZERO } else { self.now.until(half) };
        self.plan(Event::WitRotation, wait + between(SECOND / 10, 5 * SECOND));
    }

    /// Lets it happen. Returns whether it wakes the helper up.
    pub(super) fn happens(&mut self, event: Event) -> bool {
        self.tally.add(Count::Events, 1);
        self.watch.happened(event, self.now.instant);
        let agent = self.agent.clone();
        let note = match event {
            Event::Rotation => {
                let mut agent = agent.0.borrow_mut();
                if self.listener.is_some() && agent.renews {
                    agent.rotate();
                    drop(agent);
                    self.disturb(Rpc::X509, GRACE);
                    self.tally.add(Count::Rotations, 1);
                    self.plan_rotation();
                }
                String::new()
            }
            Event::WitRotation => {
                let mut agent = agent.0.borrow_mut();
                if self.listener.is_some() && agent.renews {
                    agent.rotate_wit();
                    drop(agent);
                    self.disturb(Rpc::Wit, GRACE);
                    self.tally.add(Count::Rotations, 1);
                    self.plan_wit_rotation();
                }
                String::new()
            }
            Event::CaRotation => {
                self.plan_disturbance(event, between(HOUR, 10 * DAY));
                agent.0.borrow_mut().rotate_ca(DAY * 10);
                self.disturb(Rpc::X509, GRACE);
                String::new()
            }
            Event::KeyRotation => {
                self.plan_disturbance(event, between(HOUR, 10 * DAY));
                self.rotate_jwt_key();
                String::new()
            }
            Event::KeyChange => {
                self.plan_disturbance(event, between(MINUTE, DAY));
                let is_new = below(3) == 0;
                if is_new {
                    agent.0.borrow_mut().change_keys();
                    [Rpc::Keys, Rpc::WitKeys]
                        .into_iter()
                        .for_each(|rpc| self.disturb(rpc, FIRST_SET + GRACE));
                } else {
                    agent.0.borrow_mut().push_keys();
                }
                format!(" {}", if is_new { "others" } else { "the same again" })
            }
            Event::OtherLives => {
                // Short ones cost time.
                let is_short = below(6) == 0;
                match is_short {
                    true => self.plan(event, between(MINUTE, HOUR)),
                    false => self.plan_disturbance(event, between(HOUR, 4 * DAY)),
                }
                let least = |short| if is_short { short } else { HOUR };
                let mut agent = agent.0.borrow_mut();
                agent.svid_life = between(least(2 * MINUTE), 4 * DAY);
                agent.token_life = between(least(MINUTE), 2 * DAY);
                format!(" {:?} {:?}", agent.svid_life, agent.token_life)
            }
            Event::Trouble => format!(" {:?}", self.begin_trouble()),
            Event::TroubleOver => {
                self.end_trouble();
                String::new()
            }
            Event::Grant => {
                self.grant();
                String::new()
            }
            Event::Restart => {
                self.plan_disturbance(event, between(MINUTE, 2 * DAY));
                let is_killed = below(2) == 0;
                if !self.is_disk_away {
                    DISK.set(Disk { is_dead: is_killed, ..DISK.get() });
                    self.start_helper();
                }
                format!(" killed: {is_killed}")
            }
            Event::ClockStep => {
                self.plan_disturbance(event, between(MINUTE, 6 * DAY));
                let span = between(SECOND, DAY / 2);
                let is_back = below(2) == 0;
                self.now.time = if is_back { self.now.time - span } else { self.now.time + span };
                agent.0.borrow_mut().now = self.now;
                let patience = LONGEST_SLEEP + FIRST_SET + GRACE;
                RPCS.into_iter().for_each(|rpc| self.disturb(rpc, patience));
                self.plan_rotation();
                self.plan_wit_rotation();
                format!(" {span:?} {}", if is_back { "back" } else { "forwards" })
            }
            Event::DiskFault => self.break_disk(),
            Event::DiskMended => {
                self.mend_disk();
                String::new()
            }
            Event::Process => format!(" {:?}", self.change_process()),
            Event::Application => format!(" {:?}", self.change_application()),
            Event::Signal => self.signal(),
        };
        let date = self.now.instant - self.start;
        self.history.push_back(format!("{date:?}: {event:?}{note}"));
        if self.history.len() > 12 {
            self.history.pop_front();
        }
        !matches!(event, Event::ClockStep | Event::DiskFault | Event::DiskMended | Event::Process)
    }

    fn rotate_jwt_key(&mut self) {
        self.agent.0.borrow_mut().rotate_jwt_key();
        self.watch.revoke_tokens();
        [Rpc::Token, Rpc::Keys, Rpc::WitKeys]
            .into_iter()
            .for_each(|rpc| self.disturb(rpc, FIRST_SET + GRACE));
    }

    fn begin_trouble(&mut self) -> Trouble {
        let any = below(7).checked_sub(2).map(|index| RPCS[index as usize]);
        let flaw = [Flaw::KeyOfAnother, Flaw::Expired, Flaw::CaExpired, Flaw::Garbage][below(4) as usize];
        let refuses = |code, only| Trouble::Mood(Mood::Refuses(code), only);
        let (trouble, most) = match below(13) {
            0..3 => (
                Trouble::Away,
                match below(200) {
                    0 => DAY,
                    1..20 => HOUR,
                    _ => 5 * MINUTE,
                },
            ),
            // Without an ID in its options, the helper takes another identity.
            3 if self.has_id() && below(2) == 0 => (Trouble::Mood(Mood::Partial, None), 20 * MINUTE),
            3 => (refuses(RpcStatusCode::PERMISSION_DENIED, None), 20 * MINUTE),
            4 => (refuses(RpcStatusCode::UNAVAILABLE, any), 20 * MINUTE),
            5 => (refuses(RpcStatusCode::RESOURCE_EXHAUSTED, any), 20 * MINUTE),
            6 => (refuses(RpcStatusCode::INVALID_ARGUMENT, any), 20 * MINUTE),
            7 => (Trouble::Mood(Mood::Silent, any), 6 * HOUR),
            8 | 9 => (Trouble::Mood(Mood::Bad(flaw), any), HOUR),
            10 => (Trouble::Stale, if below(20) == 0 { 2 * DAY } else { 3 * HOUR }),
            11 => (Trouble::Off, 6 * HOUR),
            _ => (Trouble::Mood(Mood::Scarce, Some(Rpc::Token)), HOUR),
        };
        self.trouble = Some(trouble);
        self.watch.begin_trouble(trouble, self.now.instant);
        let mut agent = self.agent.0.borrow_mut();
        match trouble {
            Trouble::Away => {
                self.listener = None;
                if below(2) == 0 {
                    fs::remove_file(&self.socket).unwrap();
                }
                agent.end(&RPCS, RpcStatusCode::UNAVAILABLE);
            }
            Trouble::Mood(Mood::Scarce, _) => {
                agent.set_mood(Rpc::Token, Mood::Scarce);
                agent.token_life = 100 * SECOND;
                agent.passed_over = [None; 2];
                drop(agent);
                self.rotate_jwt_key();
                self.plan(Event::Grant, MINUTE);
                self.plan(Event::TroubleOver, 10 * MINUTE + between(SECOND, most));
                return trouble;
            }
            Trouble::Mood(mood, only) => {
                match mood {
                    // On new streams, or on those that have offered the identity.
                    Mood::Partial if below(2) == 0 => agent.end(&RPCS, RpcStatusCode::UNAVAILABLE),
                    Mood::Partial => agent.wake(),
                    _ => {}
                }
                let concerned = RPCS.into_iter().filter(|rpc| only.is_none_or(|only| only == *rpc));
                concerned.for_each(|rpc| agent.set_mood(rpc, mood));
            }
            Trouble::Stale => agent.renews = false,
            Trouble::Off => {
                self.watch.before_off = (agent.counts[Rpc::Wit as usize], self.watch.starts);
                let is_off = Mood::Refuses(RpcStatusCode::UNIMPLEMENTED);
                [Rpc::Wit, Rpc::WitKeys].into_iter().for_each(|rpc| agent.set_mood(rpc, is_off));
            }
            Trouble::Restarted => {}
        }
        drop(agent);
        self.plan(Event::TroubleOver, between(SECOND / 10, most));
        trouble
    }

    fn end_trouble(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        self.disturb_by_trouble(trouble);
        let agent = self.agent.clone();
        let mut agent = agent.0.borrow_mut();
        if trouble == Trouble::Away {
            self.listen();
            // With another SVID, and the same tokens and keys as before.
            if below(2) == 0 {
                agent.rotate();
            }
            if below(2) == 0 {
                let denied = Mood::Refuses(RpcStatusCode::PERMISSION_DENIED);
                RPCS.into_iter().for_each(|rpc| agent.set_mood(rpc, denied));
                if below(2) == 0 {
                    agent.set_mood(Rpc::Wit, Mood::Partial);
                }
                if self.has_id() && below(2) == 0 {
                    agent.set_mood(Rpc::X509, Mood::Partial);
                }
                self.trouble = Some(Trouble::Restarted);
                self.watch.begin_trouble(Trouble::Restarted, self.now.instant);
                self.plan(Event::TroubleOver, between(SECOND / 10, 8 * SECOND));
                return;
            }
        }
        if trouble == Trouble::Off {
            // The agent restarts with another configuration.
            self.listen();
            agent.end(&RPCS, RpcStatusCode::UNAVAILABLE);
            RPCS.into_iter().for_each(|rpc| self.disturb(rpc, CALL_AGAIN.longest() + FIRST_SET + GRACE));
        }
        agent.renews = true;
        agent.has_grant = false;
        agent.token_life = agent.token_life.max(HOUR);
        for rpc in RPCS {
            if agent.mood(rpc) != Mood::Good {
                agent.set_mood(rpc, Mood::Good);
            }
        }
        if below(2) == 0 {
            agent.wake();
        }
        drop(agent);
        self.plans.retain(|(_, event)| *event != Event::Grant);
        self.plan_rotation();
        self.plan_wit_rotation();
        let calm = if below(4) == 0 { between(SECOND / 10, MINUTE) } else { between(10 * MINUTE, 2 * DAY) };
        self.plan_disturbance(Event::Trouble, calm);
    }

    /// A bad X.509-SVID and a good one, after which all that waits is asked for again; and an answer for one token.
    fn grant(&mut self) {
        self.plan(Event::Grant, MINUTE + between(SECOND, 20 * SECOND));
        self.disturb(Rpc::X509, GRACE);
        let agent = self.agent.clone();
        agent.0.borrow_mut().set_mood(Rpc::X509, Mood::Bad(Flaw::Expired));
        self.turn();
        agent.0.borrow_mut().set_mood(Rpc::X509, Mood::Good);
        agent.0.borrow_mut().has_grant = true;
        self.turn();
        agent.0.borrow_mut().has_grant = false;
    }

    /// The process ends, starts, has a handler, blocks the signal for a while.
    fn change_process(&mut self) -> Option<Reaction> {
        let steady = if self.process_waits { Reaction::Blocks } else { Reaction::Handles };
        let mut children = self.children.0.borrow_mut();
        let (next, most) = match children.target.reaction {
            None => (Some(Reaction::Ends), 20 * SECOND),
            Some(Reaction::Ends) => (Some(steady), 2 * DAY),
            Some(Reaction::Blocks) if !self.process_waits => (Some(steady), 2 * DAY),
            Some(_) if below(3) > 0 && !self.process_waits => (Some(Reaction::Blocks), 12 * SECOND),
            Some(_) => (None, HOUR),
        };
        if next == Some(Reaction::Ends) {
            children.target.pid = children.next_pid();
            fs::write(&self.pid_file, children.target.pid.to_string()).unwrap();
        }
        children.target.reaction = next;
        drop(children);
        self.can_take_since = (next == Some(steady)).then_some(self.now.instant);
        match next == Some(steady) {
            true => self.plan_disturbance(Event::Process, between(MINUTE, most)),
            false => self.plan(Event::Process, between(SECOND / 20, most)),
        }
        next
    }

    /// The application has a handler, blocks the signal for a while, ends by itself.
    fn change_application(&mut self) -> Option<Reaction> {
        let now = self.now.instant;
        let steady = if self.process_waits { Reaction::Blocks } else { Reaction::Handles };
        let mut children = self.children.0.borrow_mut();
        let Process { reaction, end, .. } = children.application.as_mut()?;
        let is_steady = *reaction == Some(steady);
        let next = match is_steady {
            false => Some(steady),
            true if self.process_waits || below(3) == 0 => None,
            true => Some(Reaction::Blocks),
        };
        if next.is_none() {
            let statuses = [ExitStatus::Code(0), ExitStatus::Code(3), ExitStatus::Signal(11)];
            *end = Some((now, statuses[below(3) as usize]));
            return None;
        }
        *reaction = next;
        drop(children);
        self.watch.application.can_take_since = (next == Some(steady)).then_some(now);
        match next == Some(steady) {
            true => self.plan_disturbance(Event::Application, between(MINUTE, 2 * DAY)),
            false => self.plan(Event::Application, between(SECOND / 20, 12 * SECOND)),
        }
        next
    }

    /// The helper gets a signal, and passes it on.
    fn signal(&mut self) -> String {
        self.plan_disturbance(Event::Signal, between(MINUTE, 2 * DAY));
        if self.stopping.is_some() {
            return " none".to_owned();
        }
        let signal = [Signal::SIGUSR1, Signal::SIGINT, Signal::SIGTERM][below(3) as usize];
        let signal = SignalNumber::from(signal);
        let was_running = {
            let mut children = self.children.0.borrow_mut();
            (children.is_passing_on, children.passed_on) = (true, None);
            children.application.is_some()
        };
        let received = ReceivedSignal { signal, sender: Sender::Process };
        let result = self.helper.as_mut().unwrap().signalled(received, self.now.instant);
        result.unwrap_or_else(|error| self.fail(&format!("{error}")));
        let mut children = self.children.0.borrow_mut();
        children.is_passing_on = false;
        let expected = was_running.then_some(signal);
        if children.passed_on != expected {
            let passed_on = children.passed_on;
            drop(children);
            self.fail(&format!("{signal} has come, and {passed_on:?} was passed on, not {expected:?}"));
        }
        if signal.asks_to_end() {
            match self.on_renewal() {
                Some(_) if !was_running => {
                    children.exit_code = Some(ExitStatus::Signal(signal.number()).exit_code())
                }
                Some(_) => self.watch.application.may_be_ending(self.now.instant),
                None => self.stopping = Some(signal),
            }
        }
        format!(" {signal}")
    }
}
