//! What a model file can say about schedules.

use super::{Every, Schedule, Shape};
use crate::model::ModelError;
use crate::model::fields::Fields;

/// One name of a schedule.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Fields besides the name.
    pub(crate) fields: &'static [&'static str],
    /// Reads them; the number is the plan's epochs.
    pub(crate) read: fn(&Fields<'_>, usize) -> Result<Schedule, ModelError>,
    /// Sections `schedule` that together use every branch.
    #[cfg(test)]
    pub(crate) examples: &'static [&'static str],
}

/// Every schedule.
pub(crate) const ENTRIES: [Entry; 10] = [
    Entry {
        name: "constant",
        fields: &["warmup_epochs", "every"],
        read: |fields, _| with_warmup(fields, Shape::Constant),
        #[cfg(test)]
        examples: &[
            r#"{"name": "constant"}"#,
            r#"{"name": "constant", "warmup_epochs": 2, "every": "step"}"#,
        ],
    },
    Entry {
        name: "step",
        fields: &["step_size", "gamma", "warmup_epochs"],
        read: |fields, _| {
            let (step_size, gamma) = (
                fields.integer("step_size", 1, None)?,
                fields.positive("gamma", Some(0.1))?,
            );
            with_warmup(fields, Shape::Step { step_size, gamma })
        },
        #[cfg(test)]
        examples: &[r#"{"name": "step", "step_size": 2, "gamma": 0.5}"#],
    },
    Entry {
        name: "multistep",
        fields: &["milestones", "gamma", "warmup_epochs"],
        read: |fields, _| {
            let milestones = fields.ascending("milestones")?;
            let gamma = fields.positive("gamma", Some(0.1))?;
            with_warmup(fields, Shape::Multistep { milestones, gamma })
        },
        #[cfg(test)]
        examples: &[r#"{"name": "multistep", "milestones": [1, 3], "gamma": 0.3}"#],
    },
    Entry {
        name: "exponential",
        fields: &["gamma", "warmup_epochs", "every"],
        read: |fields, _| {
            let gamma = fields.positive("gamma", None)?;
            with_warmup(fields, Shape::Exponential { gamma })
        },
        #[cfg(test)]
        examples: &[
            r#"{"name": "exponential", "gamma": 0.9}"#,
            r#"{"name": "exponential", "gamma": 0.5, "every": "step"}"#,
        ],
    },
    Entry {
        name: "cosine",
        fields: &["minimum", "warmup_epochs", "total_epochs", "every"],
        read: |fields, epochs| {
            let minimum = fields.non_negative("minimum", 0.0)?;
            let total_epochs = fields.integer("total_epochs", 1, Some(epochs))?;
            with_warmup(fields, Shape::Cosine { minimum, total_epochs })
        },
        #[cfg(test)]
        examples: &[
            r#"{"name": "cosine", "minimum": 0.001}"#,
            r#"{"name": "cosine", "warmup_epochs": 2, "every": "step"}"#,
        ],
    },
    Entry {
        name: "linear",
        fields: &["start_factor", "end_factor", "epochs", "warmup_epochs", "every"],
        read: |fields, epochs| {
            let warmup = fields.integer("warmup_epochs", 0, Some(0))?;
            let shape = Shape::Linear {
                start_factor: fields.non_negative("start_factor", 1.0)?,
                end_factor: fields.non_negative("end_factor", 0.0)?,
                epochs: fields.integer("epochs", 1, Some(epochs.saturating_sub(warmup).max(1)))?,
            };
            with_warmup(fields, shape)
        },
        #[cfg(test)]
        examples: &[
            r#"{"name": "linear", "start_factor": 0.5, "end_factor": 0.1, "epochs": 3}"#,
            r#"{"name": "linear", "warmup_epochs": 1, "every": "step"}"#,
        ],
    },
    Entry {
        name: "linear_warmup",
        fields: &["epochs", "every"],
        read: |fields, _| {
            Ok(Schedule {
                shape: Shape::Constant,
                warmup_epochs: fields.integer("epochs", 1, None)?,
                every: every(fields)?,
            })
        },
        #[cfg(test)]
        examples: &[r#"{"name": "linear_warmup", "epochs": 3}"#],
    },
    Entry {
        name: "one_cycle",
        fields: &["rising", "initial_divisor", "final_divisor", "total_epochs"],
        read: |fields, epochs| {
            let in_between = |share: f64| share > 0.0 && share < 1.0;
            Ok(Schedule {
                shape: Shape::OneCycle {
                    rising: fields.number("rising", "a number in (0, 1)", in_between, Some(0.3))?,
                    initial_divisor: fields.positive("initial_divisor", Some(25.0))?,
                    final_divisor: fields.positive("final_divisor", Some(1e4))?,
                    total_epochs: fields.integer("total_epochs", 1, Some(epochs))?,
                },
                warmup_epochs: 0,
                every: Every::Step,
            })
        },
        #[cfg(test)]
        examples: &[r#"{"name": "one_cycle"}"#],
    },
    Entry {
        name: "plateau",
        fields: &[
            "factor",
            "patience",
            "threshold",
            "cooldown",
            "minimum",
            "warmup_epochs",
        ],
        read: |fields, _| {
            let in_between = |share: f64| share > 0.0 && share < 1.0;
            let shape = Shape::Plateau {
                factor: fields.number("factor", "a number in (0, 1)", in_between, Some(0.1))?,
                patience: fields.integer("patience", 0, Some(10))?,
                threshold: fields.non_negative("threshold", 1e-4)?,
                cooldown: fields.integer("cooldown", 0, Some(0))?,
                minimum: fields.non_negative("minimum", 0.0)?,
            };
            with_warmup(fields, shape)
        },
        #[cfg(test)]
        examples: &[
            r#"{"name": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.05}"#,
            r#"{"name": "plateau", "factor": 0.5, "patience": 1, "cooldown": 1, "threshold": 0.5, "minimum": 0.02}"#,
        ],
    },
    Entry {
        name: "table",
        fields: &["factors", "epochs", "warmup_epochs"],
        read: |fields, _| {
            let factors = fields.numbers("factors", "a list of numbers of at least 0", |factor| factor >= 0.0)?;
            let epochs = match fields.get("epochs") {
                None => (0..factors.len()).collect(),
                Some(_) => fields.ascending("epochs")?,
            };
            if epochs.len() != factors.len() || epochs[0] != 0 {
                return Err(fields.error("epochs", "must begin at 0 and have an epoch for each of `factors`"));
            }
            with_warmup(fields, Shape::Table { epochs, factors })
        },
        #[cfg(test)]
        examples: &[
            r#"{"name": "table", "factors": [1, 0.5, 0.7]}"#,
            r#"{"name": "table", "epochs": [0, 2], "factors": [1, 0.1]}"#,
        ],
    },
];

fn with_warmup(fields: &Fields<'_>, shape: Shape) -> Result<Schedule, ModelError> {
    Ok(Schedule {
        shape,
        warmup_epochs: fields.integer("warmup_epochs", 0, Some(0))?,
        every: every(fields)?,
    })
}

fn every(fields: &Fields<'_>) -> Result<Every, ModelError> {
    fields.choice(
        "every",
        &[("epoch", Every::Epoch), ("step", Every::Step)],
        Some(Every::Epoch),
    )
}
