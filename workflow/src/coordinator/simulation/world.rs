//! Slurm, its nodes, the shared files and the runners, in simulated time.

mod handle;
mod job;
mod plant;

pub(super) use handle::Handle;
use job::{Fault, Process};
pub(super) use plant::Plant;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::backend::simulated::{Answer, EndState, Listed, Phase, Request};
use crate::runner::{Assignment, Claimant, Element, EndRequest, RunnerResult, Work};
use crate::state::{AttemptKey, PointId};

/// An ended job is shown for so long.
const SHOWN: f64 = 300.0;

#[derive(Debug)]
struct SimulatedJob {
    phase: Phase,
    /// When it starts, or ended, or last had work.
    at: f64,
    /// What goes wrong with it, and when.
    fault: Option<(f64, Fault)>,
    is_stopping: bool,
}

fn key_of(assignment: &Assignment) -> AttemptKey {
    AttemptKey {
        point: PointId(assignment.point),
        attempt: assignment.attempt,
    }
}

/// Everything outside the manager.
#[derive(Debug)]
pub(super) struct World {
    now: f64,
    random: u64,
    jobs: BTreeMap<Element, SimulatedJob>,
    batches: BTreeMap<u32, Work>,
    accepted: HashSet<u32>,
    processes: BTreeMap<Element, Vec<Process>>,
    claims: HashMap<AttemptKey, Claimant>,
    /// How often jobs were started, and in which of these starts attempts were claimed.
    starts: HashMap<Element, u32>,
    claimed_in: HashMap<AttemptKey, u32>,
    /// With the time at which the manager sees them if it does not look closely.
    results: HashMap<AttemptKey, (f64, RunnerResult)>,
    marks: Vec<(f64, AttemptKey)>,
    requests: HashMap<AttemptKey, EndRequest>,
    saved: HashSet<AttemptKey>,
    orders: HashSet<AttemptKey>,
    runs: HashMap<AttemptKey, u32>,
    queue: Vec<(u64, Assignment)>,
    inbox: VecDeque<(f64, Request)>,
    answers: VecDeque<(f64, Answer)>,
    next_batch: u32,
    /// Slurm does not answer before.
    down_until: f64,
    /// Of how many jobs something goes wrong, in a hundred.
    trouble: u64,
    /// Whether neither evaluations fail nor managers die.
    pub(super) is_kind: bool,
    pub(super) faults: u32,
    /// Jobs of each submission, in the order of asking.
    pub(super) submissions: Vec<u32>,
    /// Evaluations that may be at work at a time.
    pub(super) slots: usize,
    /// Pilots that may be there at a time.
    pub(super) most_pilots: u32,
    /// Attempts whose payload, and nobody else, is to blame for their end.
    to_blame: HashSet<AttemptKey>,
    /// For each batch, how often Slurm has shown it.
    shown: HashMap<u32, u32>,
    /// The fault that is planted, to see that it is noticed.
    pub(super) plant: Option<Plant>,
}

impl World {
    /// One in which nothing goes wrong and every evaluation has a loss.
    pub(super) fn quiet() -> World {
        World {
            trouble: 0,
            is_kind: true,
            ..World::new(0)
        }
    }

    pub(super) fn new(seed: u64) -> World {
        let mut world = World {
            now: 0.0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635,
            jobs: BTreeMap::new(),
            batches: BTreeMap::new(),
            accepted: HashSet::new(),
            processes: BTreeMap::new(),
            claims: HashMap::new(),
            starts: HashMap::new(),
            claimed_in: HashMap::new(),
            results: HashMap::new(),
            marks: Vec::new(),
            requests: HashMap::new(),
            saved: HashSet::new(),
            orders: HashSet::new(),
            runs: HashMap::new(),
            queue: Vec::new(),
            inbox: VecDeque::new(),
            answers: VecDeque::new(),
            next_batch: 1,
            down_until: 0.0,
            trouble: 0,
            faults: 0,
            is_kind: false,
            submissions: Vec::new(),
            slots: usize::MAX,
            most_pilots: u32::MAX,
            to_blame: HashSet::new(),
            shown: HashMap::new(),
            plant: None,
        };
        world.trouble = [0, 10, 40][world.below(3) as usize];
        world
    }

    /// The next random number below `bound` (Steele, Lea and Flood 2014, `SplitMix64`).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn seconds(&mut self, most: u64) -> f64 {
        self.below(most * 1000) as f64 / 1000.0
    }

    pub(super) fn now(&self) -> f64 {
        self.now
    }

    /// What the manager sees of the result of an attempt.
    pub(super) fn result(&self, key: AttemptKey) -> Option<RunnerResult> {
        let (seen, result) = self.results.get(&self.misread(key)?)?;
        (*seen <= self.now).then(|| result.clone())
    }

    /// Whether an attempt has left a result.
    pub(super) fn has_left_a_result(&self, key: AttemptKey) -> bool {
        self.results.contains_key(&key)
    }

    pub(super) fn has_saved(&self, key: AttemptKey) -> bool {
        self.saved.contains(&key)
    }

    /// The manager has written the orders of attempts.
    pub(super) fn prepare(&mut self, keys: &[AttemptKey]) {
        self.orders.extend(keys);
    }

    /// The manager says that an attempt failed by the fault of its payload: rightly?
    pub(super) fn is_blamed(&self, key: AttemptKey) {
        assert!(self.to_blame.contains(&key), "{key} is blamed for what happened to it");
    }

    /// The manager submits a batch: is it needed?
    fn is_submitted(&self, batch: u32) {
        // The answer to the first question may still be on its way; the second was asked by somebody who had it.
        let is_known = |other: &u32| self.shown.get(other).is_some_and(|times| *times >= 2);
        let is_alive = |other: u32| {
            let own = self.jobs.range(
                Element { batch: other, index: 0 }..Element {
                    batch: other + 1,
                    index: 0,
                },
            );
            let alive = own.filter(|(_, job)| !matches!(job.phase, Phase::Ended(_)) && !job.is_stopping);
            alive.count() as u32
        };
        match &self.batches[&batch] {
            Work::Attempts(jobs) => {
                let keys: HashSet<AttemptKey> = jobs.iter().flatten().map(key_of).collect();
                let others = self
                    .batches
                    .iter()
                    .filter(|(other, _)| **other != batch && is_known(other));
                for (other, work) in others {
                    let Work::Attempts(jobs) = work else { continue };
                    let again = jobs.iter().flatten().map(key_of).find(|key| keys.contains(key));
                    let twice = again.filter(|_| is_alive(*other) > 0);
                    assert!(twice.is_none(), "{twice:?} is submitted again beside batch {other}");
                }
            }
            Work::Pilots { count, .. } => {
                let known = self.batches.keys().filter(|other| **other != batch && is_known(other));
                let alive: u32 = known.map(|other| is_alive(*other)).sum();
                // Some may have ended, or begun anew, since they were shown.
                assert!(alive + count <= 2 * self.most_pilots, "{count} pilots beside {alive}");
            }
        }
    }

    /// The manager has given up an attempt: rightly?
    pub(super) fn is_abandoned(&self, key: AttemptKey) {
        let overlooked = self.results.contains_key(&key);
        assert!(!overlooked, "{key} is given up although it has left a result");
        let is_safe =
            self.requests.get(&key) == Some(&EndRequest::Revoked) || self.claims.get(&key) == Some(&Claimant::Manager);
        assert!(is_safe, "{key} is given up, and may still come");
    }

    /// What was asked and not answered is not asked any more; what is running at that moment may still be done.
    pub(super) fn manager_dies(&mut self) {
        let first = self.inbox.pop_front();
        self.inbox.clear();
        if let Some((_, Request::Submit { batch, size })) = first
            && self.below(2) == 0
        {
            self.accept(batch, size);
        }
        self.answers.clear();
        self.now += self.seconds(100);
        self.work();
    }

    fn accept(&mut self, batch: u32, size: u32) {
        for index in 0..size {
            let at = self.now + 1.0 + self.seconds(60);
            let element = Element { batch, index };
            let job = SimulatedJob {
                phase: Phase::Queued,
                at,
                fault: None,
                is_stopping: false,
            };
            self.jobs.insert(element, job);
        }
    }

    /// Goes to the next moment at which something happens, or the manager looks.
    pub(super) fn advance(&mut self) {
        self.now += 0.2 + self.seconds(4);
        self.work();
    }

    /// Long enough for all to end that will.
    pub(super) fn settle_down(&mut self) {
        for _ in 0..1000 {
            self.advance();
            let is_over = |job: &SimulatedJob| matches!(job.phase, Phase::Ended(_));
            if self.processes.is_empty() && self.inbox.is_empty() && self.jobs.values().all(is_over) {
                return;
            }
        }
    }

    /// Nothing works any more for a task that is over.
    pub(super) fn must_be_quiet(&self) {
        assert!(self.processes.is_empty(), "left behind: {:?}", self.processes);
        let alive = self
            .jobs
            .iter()
            .filter(|(_, job)| !matches!(job.phase, Phase::Ended(_)));
        let alive: Vec<_> = alive.collect();
        assert!(alive.is_empty(), "left behind: {alive:?}");
        for (key, runs) in &self.runs {
            assert!(*runs <= 1, "{key} ran {runs} times");
        }
    }

    fn work(&mut self) {
        self.serve();
        let elements: Vec<Element> = self.jobs.keys().copied().collect();
        for element in elements {
            self.step(element);
        }
        self.run_processes();
        let processes = self.processes.values().flatten();
        // Whoever is cut off hears only later that the attempt was taken from it.
        let at_work = processes.filter(|process| self.requests.get(&process.key) != Some(&EndRequest::Revoked));
        let at_work = at_work.count();
        assert!(at_work <= self.slots, "{at_work} evaluations at once");
        let (now, mut gone) = (self.now, Vec::new());
        for (element, job) in &self.jobs {
            if matches!(job.phase, Phase::Ended(_)) && now - job.at > SHOWN {
                gone.push(*element);
            }
        }
        for element in gone {
            self.jobs.remove(&element);
        }
    }

    /// Slurm does what it was asked, one after the other.
    fn serve(&mut self) {
        if self.down_until < self.now && self.below(400) < self.trouble {
            self.down_until = self.now + self.seconds(200);
            self.faults += 1;
        }
        while self.inbox.front().is_some_and(|(due, _)| *due <= self.now) {
            let Some((_, request)) = self.inbox.pop_front() else {
                return;
            };
            let is_down = self.now < self.down_until;
            let answer = match request {
                Request::Cancel { jobs } => {
                    for id in jobs.iter().filter(|_| !is_down) {
                        let (batch, index) = id.split_once('_').expect("ids are as they were shown");
                        let number = |text: &str| text.parse().expect("a number");
                        self.stop(Element {
                            batch: number(batch),
                            index: number(index),
                        });
                    }
                    continue;
                }
                Request::Submit { batch, size } => {
                    let trouble = self.below(100) < self.trouble;
                    self.faults += u32::from(trouble);
                    // In trouble, what is said and what is done have nothing to do with each other.
                    let is_done = if trouble { self.below(2) == 0 } else { !is_down };
                    let is_told = !trouble && !is_down;
                    if is_done {
                        self.accept(batch, size);
                    }
                    let id = if is_told {
                        Ok(batch.to_string())
                    } else {
                        Err("timed out".to_owned())
                    };
                    Answer::Submitted { batch, id }
                }
                Request::List { question } => {
                    let listed = self.jobs.iter().map(|(element, job)| Listed {
                        element: *element,
                        id: format!("{}_{}", element.batch, element.index),
                        phase: job.phase.clone(),
                    });
                    let jobs: Result<Vec<Listed>, String> = if is_down {
                        Err("no contact".to_owned())
                    } else {
                        Ok(listed.collect())
                    };
                    let shown = jobs.iter().flatten().map(|job| job.element.batch);
                    for batch in shown.collect::<HashSet<_>>() {
                        *self.shown.entry(batch).or_default() += 1;
                    }
                    Answer::Listed { question, jobs }
                }
            };
            let due = self.now + self.seconds(2);
            self.answers.push_back((due, answer));
        }
    }

    /// A job is asked to end: out of the queue at once, at work as soon as its evaluations have.
    fn stop(&mut self, element: Element) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&element) else { return };
        match job.phase {
            Phase::Queued => {
                job.phase = Phase::Ended(EndState::Cancelled);
                job.at = now;
            }
            Phase::Active => {
                job.is_stopping = true;
                self.terminate(element, false);
            }
            Phase::Ended(_) => {}
        }
    }
}
