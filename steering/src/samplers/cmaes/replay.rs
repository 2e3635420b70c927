//! The strategy's whole past, worked out again from the history.
//!
//! No state is handed from call to call, so it is replayed. Points stand in a sequence: position j is drawn by the counter-based
//! generator at j from the distribution of its time. Drawing position j again from that distribution gives the same point, and the
//! history is searched for it; so latent coordinates need not be recorded, the order of the history does not matter, and points from
//! elsewhere do no harm. The first position whose point is not in the history is the next to be proposed.
//!
//! A generation has at least λ points, and all that were asked for before it could be closed: a batch of a hundred makes a
//! generation of a hundred. It is closed
//!
//! * completely, when all of its points have outcomes; or
//! * early, when the older half of them has, and at least λ: workers that finish one by one always have some points out. The younger
//!   half then belongs to the next generation.
//!
//! Later, when all outcomes are known, both are possible; which it was is seen from the point that follows, as one of the two
//! distributions gives a point that is in the history. So a late outcome never changes what is already settled.
//!
//! In a discrete space a draw may repeat a point. Then its outcome is known already, and the position is filled without a new
//! evaluation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use protocol::Outcome;

use super::axes::Axes;
use super::constants::default_lambda;
use super::distribution::{Distribution, Latent};
use crate::history::{History, Observation};
use crate::rng::{Key, Stream};
use crate::space::{Coordinate, Domain, Space};

/// Repeated points in a row, in generations, after which the strategy is given up for this call.
const PATIENCE: usize = 20;
/// Largest generation after restarts with doubled size.
const LARGEST: usize = 4_096;

/// The strategy at some position of its sequence.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    space: &'a Space,
    key: Key,
    pub(super) axes: Axes<'a>,
    lambda: usize,
    fates: Vec<Fate>,
    /// Where in `fates` a point is.
    known: HashMap<Arc<[u64]>, usize>,
    /// Points that are positions of the sequence.
    used: HashSet<usize>,
    distribution: Distribution,
    /// Positions that belong to no closed generation.
    open: Vec<Member>,
    pub(super) position: u64,
    repeated: usize,
}

/// What a point taught.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Pending,
    Done(f64),
    Failed,
    /// Lost with its machine.
    Nothing,
}

#[derive(Debug, Clone)]
struct Member {
    latent: Latent,
    fate: usize,
    generation: usize,
}

/// The next point.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) latent: Latent,
    pub(super) coordinates: Vec<Option<Coordinate>>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(space: &'a Space, history: &History, key: Key, lambda: Option<usize>) -> Self {
        let axes = Axes::new(space);
        let lambda = lambda.unwrap_or_else(|| default_lambda(axes.count()));
        let centre = Distribution::start(&axes, vec![0.5; axes.numeric.len()], lambda, 0);
        let mut replay = Self {
            space,
            key,
            axes,
            lambda,
            fates: Vec::with_capacity(history.len()),
            known: HashMap::with_capacity(history.len()),
            used: HashSet::new(),
            distribution: centre,
            open: Vec::new(),
            position: 0,
            repeated: 0,
        };
        for observation in history.observations() {
            if let Some(fingerprint) = observation.key() {
                replay.know(fingerprint.clone(), fate(observation));
            }
        }
        replay
    }

    /// The distribution that the next point is drawn from.
    pub(super) fn current(&self) -> &Distribution {
        &self.distribution
    }

    /// Positions with an outcome, and all positions, of the generation that is being filled.
    pub(super) fn filled(&self) -> (usize, usize) {
        let done = self
            .open
            .iter()
            .filter(|member| self.fates[member.fate] != Fate::Pending)
            .count();
        (done, self.open.len())
    }

    /// Goes on along the sequence to the first point that is not known; nothing if only known ones are drawn.
    pub(super) fn next(&mut self) -> Option<Proposal> {
        if self.axes.count() == 0 {
            return None;
        }
        loop {
            let proposal = self.draw(&self.distribution);
            let known = self.known.get(&self.space.fingerprint(&proposal.coordinates)?).copied();
            let is_repeated = known.is_some_and(|fate| self.used.contains(&fate));
            // Whatever this distribution gave belongs to its generation. A repeated point does so only while it is too small.
            if (known.is_none() || is_repeated)
                && let Some((distribution, rest)) = self.closed()
            {
                self.distribution = distribution;
                self.open = rest;
                continue;
            }
            let Some(fate) = known else { return Some(proposal) };
            self.repeated = if self.used.insert(fate) { 0 } else { self.repeated + 1 };
            if self.repeated > PATIENCE * self.distribution.constants.lambda {
                return None;
            }
            self.append(proposal.latent, fate);
        }
    }

    /// Takes the point of [`Self::next`] as proposed.
    pub(super) fn accept(&mut self, proposal: Proposal) {
        let Some(fingerprint) = self.space.fingerprint(&proposal.coordinates) else {
            return;
        };
        let fate = self.know(fingerprint, Fate::Pending);
        self.used.insert(fate);
        self.repeated = 0;
        self.append(proposal.latent, fate);
    }

    fn know(&mut self, fingerprint: Arc<[u64]>, fate: Fate) -> usize {
        let next = self.fates.len();
        let at = *self.known.entry(fingerprint).or_insert(next);
        if at == next {
            self.fates.push(fate);
        }
        at
    }

    /// The point at the position that follows.
    fn draw(&self, distribution: &Distribution) -> Proposal {
        let latent = distribution.draw(&self.axes, &mut self.key.generator(self.position, Stream::Latent));
        let coordinates = self.coordinates(distribution, &latent);
        Proposal { latent, coordinates }
    }

    fn append(&mut self, latent: Latent, fate: usize) {
        self.position += 1;
        // A lost point has nothing to say.
        if self.fates[fate] != Fate::Nothing {
            self.open.push(Member {
                latent,
                fate,
                generation: self.distribution.generation,
            });
        }
    }

    /// The distribution after this generation, and what is left for the next; nothing if it cannot be closed yet.
    fn closed(&self) -> Option<(Distribution, Vec<Member>)> {
        let lambda = self.distribution.constants.lambda;
        let all = self.open.len();
        let half = lambda.max(all.div_ceil(2));
        if all < half {
            return None;
        }
        let is_complete = |count: usize| {
            self.open[..count]
                .iter()
                .all(|member| self.fates[member.fate] != Fate::Pending)
        };
        if !is_complete(half) {
            return None;
        }
        let early = || self.update(half);
        if half == all || !is_complete(all) {
            return Some(early());
        }
        let completely = self.update(all);
        if self.is_known(&completely.0) {
            return Some(completely);
        }
        let early = early();
        Some(if self.is_known(&early.0) { early } else { completely })
    }

    /// Whether the point that follows was drawn from this distribution.
    fn is_known(&self, distribution: &Distribution) -> bool {
        let fingerprint = self.space.fingerprint(&self.draw(distribution).coordinates);
        fingerprint.is_some_and(|fingerprint| self.known.contains_key(&fingerprint))
    }

    /// The update by the first `count` open positions.
    fn update(&self, count: usize) -> (Distribution, Vec<Member>) {
        let mut members: Vec<&Member> = self.open[..count].iter().collect();
        let loss = |member: &Member| match self.fates[member.fate] {
            Fate::Done(loss) => loss,
            _ => f64::INFINITY,
        };
        // Stable: equal losses keep the order of their positions. Failures come last.
        members.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
        let best = Some(loss(members[0])).filter(|loss| loss.is_finite());
        let mut next = self.distribution.clone();
        let ranked: Vec<(&Latent, bool)> = members
            .iter()
            .map(|member| (&member.latent, member.generation == next.generation))
            .collect();
        next.update(&self.axes, &ranked, best);
        if next.is_spent() {
            // What was drawn before a restart has no place in the new run.
            return (self.restart(next.run + 1), Vec::new());
        }
        (next, self.open[count..].to_vec())
    }

    /// A new run from a random place with generations of twice the size: A. Auger, N. Hansen, *CEC* (2005).
    fn restart(&self, run: usize) -> Distribution {
        let lambda = self
            .lambda
            .saturating_mul(1 << run.min(12))
            .min(LARGEST.max(self.lambda));
        let mut generator = self.key.generator(run as u64, Stream::Startup);
        let m = self.axes.numeric.iter().map(|_| generator.uniform()).collect();
        Distribution::start(&self.axes, m, lambda, run)
    }

    /// The point that a latent one stands for.
    fn coordinates(&self, distribution: &Distribution, latent: &Latent) -> Vec<Option<Coordinate>> {
        let mut drawn: Vec<Option<Coordinate>> = vec![None; self.space.dimensions().len()];
        for (number, (axis, x)) in self.axes.numeric.iter().zip(&latent.x).enumerate() {
            drawn[axis.position] = Some(axis.at(distribution.spread(number, *x)));
        }
        for (choice, category) in self.axes.categorical.iter().zip(&latent.categories) {
            drawn[choice.position] = Some(Coordinate::Category(*category));
        }
        let mut assignment = self.space.blank();
        for &position in self.space.order() {
            let dimension = &self.space.dimensions()[position];
            if !self.space.is_active(position, &assignment) {
                drawn[position] = None;
                continue;
            }
            let coordinate = match dimension.domain {
                Domain::Fixed(_) => Coordinate::Fixed,
                _ => drawn[position].expect("all dimensions that vary are drawn"),
            };
            drawn[position] = Some(coordinate);
            if dimension.is_parent {
                assignment.set(position, dimension.decode(coordinate));
            }
        }
        drawn
    }
}

fn fate(observation: &Observation) -> Fate {
    match observation.outcome {
        Outcome::Pending => Fate::Pending,
        Outcome::Done { loss } => Fate::Done(loss.get()),
        Outcome::Failed if observation.blamed => Fate::Failed,
        Outcome::Failed => Fate::Nothing,
    }
}
