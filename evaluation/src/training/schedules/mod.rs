//! Learning-rate schedules.
//!
//! The rate of a step is a pure function of its position and of the objective's values so far, so a resumed training
//! needs no state for it. To add a schedule: a variant of [`Shape`] with its line in `factor`, and an entry in
//! [`ENTRIES`], whose examples are checked against PyTorch and through an interruption.

mod entries;

use std::f64::consts::PI;

use serde::Serialize;

pub(crate) use entries::ENTRIES;

/// How the learning rate changes during training; epochs count from 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schedule {
    /// The rates after the warm-up.
    #[serde(flatten)]
    pub shape: Shape,
    /// Epochs at the beginning in which the rate rises in equal parts.
    pub warmup_epochs: usize,
    /// When the rate changes.
    pub every: Every,
}

/// When a rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Between epochs.
    Epoch,
    /// After each step; positions in between are fractions of epochs.
    Step,
}

/// The forms of schedules.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Shape {
    /// Always the same.
    Constant,
    /// Times `gamma` every `step_size` epochs.
    Step {
        /// Epochs between two changes.
        step_size: usize,
        /// Factor at each change.
        gamma: f64,
    },
    /// Times `gamma` at each of the named epochs.
    Multistep {
        /// Epochs of the changes, ascending.
        milestones: Vec<usize>,
        /// Factor at each change.
        gamma: f64,
    },
    /// Times `gamma` after every epoch.
    Exponential {
        /// Factor per epoch.
        gamma: f64,
    },
    /// Half a cosine from the learning rate to `minimum`, from the end of the warm-up on (Loshchilov and Hutter 2017).
    Cosine {
        /// Rate at the end.
        minimum: f64,
        /// The epoch at which the minimum is reached; the plan's `epochs` unless the model file says otherwise.
        total_epochs: usize,
    },
    /// Straight line from `start_factor` to `end_factor` over `epochs` epochs after the warm-up, then constant.
    Linear {
        /// Factor in the first epoch.
        start_factor: f64,
        /// Factor at the end.
        end_factor: f64,
        /// Length of the change.
        epochs: usize,
    },
    /// One cycle, changed after every step (Smith and Topin 2018): up to the learning rate, then down.
    OneCycle {
        /// Share of all steps that the increase takes, in `(0, 1)`.
        rising: f64,
        /// The rate begins at `learning_rate / initial_divisor`.
        initial_divisor: f64,
        /// It ends at `initial rate / final_divisor`.
        final_divisor: f64,
        /// Length of the cycle; the plan's `epochs` unless the model file says otherwise.
        total_epochs: usize,
    },
    /// Times `factor` whenever the objective has not improved for more than `patience` epochs.
    Plateau {
        /// Factor at each change, in `(0, 1)`.
        factor: f64,
        /// Epochs without improvement that are endured.
        patience: usize,
        /// An improvement is a change by more than this share of the best value.
        threshold: f64,
        /// Epochs after a change in which the lack of improvement does not count.
        cooldown: usize,
        /// Smallest rate.
        minimum: f64,
    },
    /// Factors by epoch, such as another program computed; the last one stays.
    Table {
        /// First epochs of the factors, ascending.
        epochs: Vec<usize>,
        /// Factors of the learning rate.
        factors: Vec<f64>,
    },
}

/// Where training is, for schedules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position<'a> {
    /// Epoch, from 0.
    pub(crate) epoch: usize,
    /// Step in the epoch, from 0.
    pub(crate) step: usize,
    /// Steps per epoch.
    pub(crate) steps: usize,
    /// The objective of each epoch done; less is better.
    pub(crate) losses: &'a [f64],
}

impl Schedule {
    /// The learning rate of a step.
    pub(crate) fn rate(&self, base: f64, at: Position<'_>) -> f64 {
        let rate = self.shape.rate(base, self.time(at), self.warmup_epochs as f64, at);
        if at.epoch < self.warmup_epochs {
            let warmup = self.warmup_epochs as f64;
            match self.every {
                Every::Epoch => rate * (at.epoch as f64 + 1.0) / (warmup + 1.0),
                Every::Step => {
                    let done = (at.epoch * at.steps + at.step) as f64;
                    rate * (done + 1.0) / (warmup * at.steps as f64 + 1.0)
                }
            }
        } else {
            rate
        }
    }

    /// The time in epochs.
    fn time(&self, at: Position<'_>) -> f64 {
        match self.every {
            Every::Epoch => at.epoch as f64,
            Every::Step => at.epoch as f64 + at.step as f64 / at.steps.max(1) as f64,
        }
    }
}

impl Shape {
    fn rate(&self, base: f64, time: f64, warmup: f64, at: Position<'_>) -> f64 {
        match self {
            Self::Constant => base,
            Self::Step { step_size, gamma } => base * libm::pow(*gamma, (at.epoch / step_size) as f64),
            Self::Multistep { milestones, gamma } => {
                let passed = milestones.iter().filter(|milestone| **milestone <= at.epoch).count();
                base * libm::pow(*gamma, passed as f64)
            }
            Self::Exponential { gamma } => base * libm::pow(*gamma, time),
            Self::Cosine { minimum, total_epochs } => {
                let length = (*total_epochs as f64 - warmup).max(1.0);
                let done = ((time - warmup) / length).clamp(0.0, 1.0);
                minimum + (base - minimum) * 0.5 * (1.0 + libm::cos(PI * done))
            }
            Self::Linear {
                start_factor,
                end_factor,
                epochs,
            } => {
                let done = ((time - warmup) / (*epochs).max(1) as f64).clamp(0.0, 1.0);
                base * (start_factor + (end_factor - start_factor) * done)
            }
            Self::OneCycle {
                rising,
                initial_divisor,
                final_divisor,
                total_epochs,
            } => {
                let initial = base / initial_divisor;
                let last = (total_epochs * at.steps).max(2) as f64 - 1.0;
                let now = (at.epoch * at.steps + at.step) as f64;
                let peak = (rising * (last + 1.0) - 1.0).max(1e-9);
                let between = |from: f64, to: f64, done: f64| {
                    to + (from - to) * 0.5 * (1.0 + libm::cos(PI * done.clamp(0.0, 1.0)))
                };
                if now <= peak {
                    between(initial, base, now / peak)
                } else {
                    between(base, initial / final_divisor, (now - peak) / (last - peak).max(1e-9))
                }
            }
            Self::Plateau {
                factor,
                patience,
                threshold,
                cooldown,
                minimum,
            } => {
                let (mut rate, mut best, mut stale, mut rest) = (base, f64::INFINITY, 0, 0);
                for loss in at.losses {
                    if best.is_infinite() || *loss < best - threshold * best.abs() {
                        best = *loss;
                        stale = 0;
                    } else {
                        stale += 1;
                    }
                    if rest > 0 {
                        rest -= 1;
                        stale = 0;
                    }
                    if stale > *patience {
                        rate = (rate * factor).max(*minimum).min(rate);
                        rest = *cooldown;
                        stale = 0;
                    }
                }
                rate
            }
            Self::Table { epochs, factors } => {
                let passed = epochs.iter().filter(|epoch| **epoch <= at.epoch).count();
                base * factors[passed.max(1) - 1]
            }
        }
    }
}
