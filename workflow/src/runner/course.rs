//! The course of a command under control, without the command: when it is asked to end, when it is killed, and when it is over.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Why a command was asked to end, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Intervention {
    None,
    TimedOut,
    Stopped,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Look again when something happens, at the latest then.
    Wait(Option<Instant>),
    /// Ask it to end, and look again.
    Ask,
    /// End it by force, and look again.
    Kill,
    /// It has ended.
    Over,
}

/// Where the command stands.
#[derive(Debug)]
pub(super) struct Course {
    deadline: Option<Instant>,
    grace: Duration,
    intervention: Intervention,
    /// After the request to end.
    kill_at: Option<Instant>,
    is_killed: bool,
}

impl Course {
    /// A command that begins now, and has until `deadline`; asked to end, it has `grace`.
    pub(super) fn new(deadline: Option<Instant>, grace: Duration) -> Course {
        Course {
            deadline,
            grace,
            intervention: Intervention::None,
            kill_at: None,
            is_killed: false,
        }
    }

    pub(super) fn intervention(&self) -> Intervention {
        self.intervention
    }

    /// What to do at `now`, when the command has ended or not, and anything that it has started is left or not; `take_stop` tells
    /// whether its end was asked for since the last call.
    ///
    /// Whoever has ended before this process knew of a reason to ask for it has ended by itself.
    pub(super) fn next(
        &mut self,
        now: Instant,
        has_ended: bool,
        is_something_left: bool,
        take_stop: &mut dyn FnMut() -> bool,
    ) -> Step {
        let was_asked = self.intervention != Intervention::None;
        // Asked to end, a shell goes at once; what it had started still has its time to save and end.
        if has_ended && (!was_asked || self.is_killed || !is_something_left) {
            return Step::Over;
        }
        if !was_asked {
            if take_stop() {
                self.intervention = Intervention::Stopped;
            } else if self.deadline.is_some_and(|deadline| now >= deadline) {
                self.intervention = Intervention::TimedOut;
            } else {
                return Step::Wait(self.deadline);
            }
            self.kill_at = Some(now + self.grace);
            return Step::Ask;
        }
        // Asked twice: at once.
        if self.kill_at.is_some_and(|at| now >= at || take_stop()) {
            self.kill_at = None;
            self.is_killed = true;
            return Step::Kill;
        }
        Step::Wait(self.kill_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    const DEADLINE: u64 = 100;
    const GRACE: u64 = 20;
    const NEVER: u64 = 1_000_000;

    /// A command that ends by itself, or so long after it is asked to, and children that outlive it by a while; in microseconds.
    #[derive(Debug)]
    struct Command {
        ends_at: u64,
        obeys_after: u64,
        children: u64,
        /// When its end is asked for from outside.
        stops: Vec<u64>,
        /// When its supervisor is woken by something else.
        wakes: Vec<u64>,
    }

    /// What came of it, if nothing was wrong.
    fn run(command: &Command, draws: &mut Draws, plant: bool) -> Result<Intervention, String> {
        let zero = Instant::now();
        let at = |micros: u64| zero + Duration::from_micros(micros);
        let mut course = Course::new(Some(at(DEADLINE)), Duration::from_micros(GRACE));
        let (mut now, mut ends_at, mut stops_taken) = (0, command.ends_at, 0);
        let (mut asked_at, mut killed_at): (Option<u64>, Option<u64>) = (None, None);
        loop {
            let due = command.stops.iter().filter(|stop| **stop <= now).count();
            let mut take_stop = || std::mem::replace(&mut stops_taken, due) < due;
            let has_ended = now >= ends_at;
            let is_left = !has_ended || (killed_at.is_none() && now < ends_at + command.children);
            // The planted fault: a clock that is ahead.
            let shown = at(now + u64::from(plant));
            match course.next(shown, has_ended, is_left, &mut take_stop) {
                Step::Over if !has_ended => return Err(format!("over at {now} while it runs")),
                Step::Over => break,
                Step::Ask if asked_at.replace(now).is_some() => return Err(format!("asked twice, at {now}")),
                Step::Ask => ends_at = ends_at.min(now + command.obeys_after),
                Step::Kill if killed_at.replace(now).is_some() => return Err(format!("killed twice, at {now}")),
                Step::Kill => ends_at = ends_at.min(now),
                Step::Wait(until) => {
                    let until = until.map_or(NEVER, |until| (until - zero).as_micros() as u64);
                    let moments = [ends_at, ends_at + command.children, until];
                    let others = command.stops.iter().chain(&command.wakes).copied();
                    let moments = moments.into_iter().chain(others);
                    let next = moments.filter(|next| *next > now && *next < NEVER).min();
                    let next = next.ok_or("it waits for ever")?;
                    // Woken in time, late, or by something else.
                    now = match draws.below(4) {
                        0 => now + 1,
                        1 => next + draws.below(4),
                        _ => next,
                    };
                }
            }
        }
        let is_asked = |by: u64| command.stops.iter().any(|stop| *stop <= by);
        match (course.intervention(), asked_at) {
            (Intervention::None, None) => {}
            (Intervention::TimedOut, Some(at)) if at >= DEADLINE => {}
            (Intervention::Stopped, Some(at)) if is_asked(at) => {}
            wrong => return Err(format!("without a reason: {wrong:?}")),
        }
        match (killed_at, asked_at) {
            (None, _) => {}
            (Some(killed), Some(asked)) if killed >= asked + GRACE || !command.stops.is_empty() => {}
            wrong => return Err(format!("killed too early: {wrong:?}")),
        }
        Ok(course.intervention())
    }

    /// How often each intervention came of so many courses, all of which are decided within microseconds of the deadline.
    fn courses(count: u64, plant: bool) -> Result<[u64; 3], String> {
        let mut draws = Draws(9);
        let mut found = [0; 3];
        for number in 0..count {
            let near = |draws: &mut Draws| DEADLINE - 3 + draws.below(7);
            let is_slow = draws.below(8) == 0;
            let command = Command {
                ends_at: if is_slow { 500 } else { near(&mut draws) },
                obeys_after: if draws.below(3) == 0 {
                    NEVER
                } else {
                    draws.below(GRACE + 5)
                },
                children: draws.below(2) * draws.below(GRACE + 5),
                stops: (0..draws.below(3)).map(|_| near(&mut draws)).collect(),
                wakes: (0..draws.below(4)).map(|_| near(&mut draws)).collect(),
            };
            let one = run(&command, &mut draws, plant).map_err(|wrong| format!("{number}, {command:?}: {wrong}"))?;
            found[match one {
                Intervention::None => 0,
                Intervention::TimedOut => 1,
                Intervention::Stopped => 2,
            }] += 1;
        }
        Ok(found)
    }

    #[test]
    fn a_time_out_at_the_very_end_has_one_outcome() {
        let found = courses(100_000, false).unwrap();
        // Otherwise this would be no test.
        assert!(found.iter().all(|count| *count > 5_000), "{found:?}");
        let noticed = courses(1_000, true).unwrap_err();
        assert!(noticed.contains("without a reason"), "{noticed}");
    }
}
