//! Learning-rate schedules.

use super::plan::Schedule;

/// Where training is, for schedules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Epoch, from 0.
    pub(crate) epoch: usize,
    /// Step in the epoch, from 0.
    pub(crate) step: usize,
    /// Steps per epoch.
    pub(crate) steps: usize,
}

impl Schedule {
    /// The learning rate of a step. All but the one-cycle schedule change between epochs only.
    pub(crate) fn rate(&self, base: f64, at: Position) -> f64 {
        let epoch = at.epoch as f64;
        match self {
            Self::Constant => base,
            Self::Step { step_size, gamma } => base * libm::pow(*gamma, (at.epoch / step_size) as f64),
            Self::Multistep { milestones, gamma } => {
                let passed = milestones.iter().filter(|milestone| **milestone <= at.epoch).count();
                base * libm::pow(*gamma, passed as f64)
            }
            Self::Exponential { gamma } => base * libm::pow(*gamma, epoch),
            Self::Cosine {
                minimum,
                warmup_epochs,
                total_epochs,
            } => {
                if at.epoch < *warmup_epochs {
                    return base * (epoch + 1.0) / (*warmup_epochs as f64 + 1.0);
                }
                let length = total_epochs.saturating_sub(*warmup_epochs).max(1) as f64;
                let done = ((at.epoch - warmup_epochs) as f64 / length).min(1.0);
                minimum + (base - minimum) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done))
            }
            Self::Linear {
                start_factor,
                end_factor,
                epochs,
            } => {
                let done = (epoch / (*epochs).max(1) as f64).min(1.0);
                base * (start_factor + (end_factor - start_factor) * done)
            }
            Self::LinearWarmup { epochs } => base * ((epoch + 1.0) / (*epochs as f64 + 1.0)).min(1.0),
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
                    to + (from - to) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done.clamp(0.0, 1.0)))
                };
                if now <= peak {
                    between(initial, base, now / peak)
                } else {
                    between(base, initial / final_divisor, (now - peak) / (last - peak).max(1e-9))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: &Schedule, epochs: usize) -> Vec<f64> {
        (0..epochs)
            .map(|epoch| {
                schedule.rate(
                    1.0,
                    Position {
                        epoch,
                        step: 0,
                        steps: 1,
                    },
                )
            })
            .collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }

    #[test]
    fn stepwise_schedules_change_at_their_epochs() {
        assert_close(
            &rates(
                &Schedule::Step {
                    step_size: 2,
                    gamma: 0.5,
                },
                5,
            ),
            &[1.0, 1.0, 0.5, 0.5, 0.25],
        );
        let multistep = Schedule::Multistep {
            milestones: vec![1, 3],
            gamma: 0.1,
        };
        assert_close(&rates(&multistep, 4), &[1.0, 0.1, 0.1, 0.01]);
        assert_close(&rates(&Schedule::Exponential { gamma: 0.5 }, 3), &[1.0, 0.5, 0.25]);
    }

    #[test]
    fn the_cosine_falls_from_the_rate_to_the_minimum() {
        let schedule = Schedule::Cosine {
            minimum: 0.2,
            warmup_epochs: 0,
            total_epochs: 4,
        };
        let root = std::f64::consts::FRAC_1_SQRT_2;
        assert_close(
            &rates(&schedule, 5),
            &[1.0, 0.6 + 0.4 * root, 0.6, 0.6 - 0.4 * root, 0.2],
        );
    }

    #[test]
    fn linear_schedules_end_at_their_factor() {
        let schedule = Schedule::Linear {
            start_factor: 1.0,
            end_factor: 0.0,
            epochs: 4,
        };
        assert_close(&rates(&schedule, 6), &[1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
        assert_close(
            &rates(&Schedule::LinearWarmup { epochs: 3 }, 5),
            &[0.25, 0.5, 0.75, 1.0, 1.0],
        );
    }

    #[test]
    fn one_cycle_rises_to_the_rate_and_falls_to_the_end() {
        let schedule = Schedule::OneCycle {
            rising: 0.3,
            initial_divisor: 25.0,
            final_divisor: 1e4,
            total_epochs: 10,
        };
        let at = |step: usize| {
            schedule.rate(
                1.0,
                Position {
                    epoch: step / 10,
                    step: step % 10,
                    steps: 10,
                },
            )
        };
        assert_close(&[at(0), at(29), at(99)], &[0.04, 1.0, 0.04 / 1e4]);
    }
}
