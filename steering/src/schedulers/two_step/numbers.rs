//! How many configurations and trainings each step has, and the plan that this makes.

use super::TwoStep;
use super::second_step::sizes;
use crate::schedulers::{Plan, PlannedBracket, PlannedStep, Unit};

/// Configurations of the first step when neither setting nor budget says how many.
const CONFIGURATIONS: usize = 500;
/// How many more than `top` may go on for the sake of the chance, as a factor.
const MOST: usize = 5;

impl TwoStep {
    /// Most that go on after a first step of so many.
    pub(super) fn most(&self, first: usize) -> usize {
        let top = self.top.of(first);
        let most = match &self.race {
            Some(_) if self.is_modelled() => first,
            Some(rungs) => sizes(rungs, self.eta, top, first)[0],
            None => MOST * top,
        };
        most.min(first)
    }

    /// Configurations of the first step in a search of so many points.
    pub(super) fn first(&self, points: Option<usize>) -> usize {
        match (self.configurations, points) {
            (0, None) => CONFIGURATIONS,
            (0, Some(points)) => {
                // The largest number that leaves room for the second step; the room grows with it by steps of one.
                let fits = |count: usize| self.evaluations(count) + self.climbs(count) + self.second(count) <= points;
                let (mut low, mut high) = (1, points.max(1));
                while low < high {
                    let middle = (low + high).div_ceil(2);
                    if fits(middle) { low = middle } else { high = middle - 1 }
                }
                low
            }
            (count, _) => count,
        }
    }

    /// Trainings after a first step of so many: in full if the calibration asks for no more, or in a race that is full.
    pub(super) fn second(&self, first: usize) -> usize {
        // The best belongs to both; where all that there are go on, so do those of the calibration.
        match &self.race {
            Some(_) if self.is_modelled() => self.most_modelled(first),
            None => (self.top.of(first) + self.calibration.saturating_sub(1)).min(first),
            Some(rungs) => {
                let stages: usize = sizes(rungs, self.eta, self.top.of(first), first).iter().sum();
                stages + self.calibration.saturating_sub(1)
            }
        }
    }

    /// Evaluations of a first step of so many configurations.
    fn evaluations(&self, first: usize) -> usize {
        self.first.as_ref().map_or(first, |scheduler| {
            scheduler.plan(Some(first as u64)).evaluations() as usize
        })
    }

    /// Trainings on all further rungs of the ladder, if every one of them is needed.
    fn climbs(&self, first: usize) -> usize {
        let (mut members, mut sum) = (first, 0);
        for _ in 1..self.rungs.len() {
            members = self.survivors(members);
            sum += members;
        }
        sum
    }

    /// How many of so many are compared again on the next rung, at most: the better half and those of the calibration.
    pub(super) fn survivors(&self, count: usize) -> usize {
        (count.div_ceil(2) + self.calibration).min(count)
    }

    /// Most points of a second step by a model after a first step of so many: those that are trained in full in any case, and what
    /// is left spent on the cheapest that there are.
    fn most_modelled(&self, first: usize) -> usize {
        let (full, certain) = (self.full_epochs(), self.certain(first));
        let cheap = match self.fidelity.unit() {
            Unit::Epochs => self.rungs[0] as f64 / full,
            Unit::Fraction => self.rungs[0] as f64 / self.fidelity.full() as f64 * self.whole_epochs(false) / full,
        };
        let part = self.middle().map_or(1.0, |middle| middle as f64 / full);
        let before = if self.fidelity.unit() == Unit::Epochs {
            cheap
        } else {
            0.0
        };
        let left = (self.cost - cheap) * first as f64 - certain as f64 * (1.0 - before);
        let free = (left / (part - before)).max(0.0) as usize;
        let stages = 1 + usize::from(part < 1.0);
        (free + certain * stages).min(first * stages)
    }

    /// How many of so many are trained in full in any case: `top`, and those of the calibration, of which the best is one of them.
    pub(super) fn certain(&self, first: usize) -> usize {
        (self.top.of(first) + self.calibration.saturating_sub(1)).min(first)
    }

    /// What becomes of so many configurations, or of as many as there are without a budget.
    pub(super) fn planned(&self, configurations: Option<usize>) -> Plan {
        let first = configurations.unwrap_or_else(|| self.first(None));
        let (all, full) = (self.second(first) as u64, self.fidelity.full());
        let race = self.race.as_ref().map(|rungs| {
            let top = self.top.of(first);
            let sizes = match (self.is_modelled(), self.middle()) {
                (true, None) => vec![
                    self.most_modelled(first)
                        .saturating_sub(self.calibration.saturating_sub(1)),
                ],
                (true, Some(_)) => vec![self.most_modelled(first).saturating_sub(self.certain(first)), top],
                (false, _) => sizes(rungs, self.eta, top, first),
            };
            let mut counts: Vec<(u64, u64)> = rungs
                .iter()
                .copied()
                .zip(sizes.into_iter().map(|size| size as u64))
                .collect();
            if let Some((_, last)) = counts.last_mut() {
                *last += self.calibration.saturating_sub(1) as u64;
            }
            counts
        });
        let is_ladder = self.fidelity.unit() == Unit::Epochs || (self.first.is_none() && race.is_none());
        if is_ladder {
            let mut rungs = vec![(self.fidelity.least(), first as u64)];
            rungs.extend(race.unwrap_or_else(|| vec![(full, all)]));
            let bracket = PlannedBracket {
                bracket: 0,
                step: None,
                rungs,
            };
            return Plan {
                brackets: vec![bracket],
            };
        }
        let step = |number, share| {
            Some(PlannedStep {
                number,
                share,
                full: self.epochs[1],
            })
        };
        let mut plan = match &self.first {
            Some(scheduler) => scheduler.plan(Some(first as u64)),
            None => Plan {
                brackets: vec![PlannedBracket {
                    bracket: 0,
                    step: None,
                    rungs: vec![(self.epochs[0].max(1), first as u64)],
                }],
            },
        };
        for bracket in &mut plan.brackets {
            bracket.step = step(1, self.fidelity.least());
        }
        plan.brackets.push(PlannedBracket {
            bracket: 0,
            step: step(2, full),
            rungs: race.unwrap_or_else(|| vec![(self.epochs[1], all)]),
        });
        plan
    }
}
