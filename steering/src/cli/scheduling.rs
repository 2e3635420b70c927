//! The options of a scheduler, and `steering schedulers`.

use clap::Args;
use protocol::exit;
use serde_json::{Value, json};

use super::arguments::{ListOptions, setting};
use super::{Failure, listing, output};
use crate::schedulers::{Fidelity, Registry, Schedule};

/// Who decides how far points are trained.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training part of the points further")]
pub(super) struct ScheduleOptions {
    /// Scheduler, see `steering schedulers`; without it every point is trained in full
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,
    /// Epochs of the shortest training
    #[arg(
        long,
        alias = "minEpochs",
        alias = "min_epochs",
        value_name = "COUNT",
        requires = "max_epochs",
        allow_negative_numbers = true
    )]
    min_epochs: Option<u64>,
    /// Epochs of full training; points then say in `hpo.epochs` how many they are granted in total
    #[arg(
        long,
        alias = "maxEpochs",
        alias = "max_epochs",
        value_name = "COUNT",
        requires = "scheduler",
        allow_negative_numbers = true
    )]
    max_epochs: Option<u64>,
    /// Share of the data of the smallest training, instead of epochs; points then say in `hpo.frac` how much they are granted
    #[arg(
        long,
        alias = "minFraction",
        alias = "min_fraction",
        value_name = "SHARE",
        requires = "scheduler",
        conflicts_with = "max_epochs",
        allow_negative_numbers = true
    )]
    min_fraction: Option<f64>,
    /// A setting of the scheduler, see `steering schedulers`
    #[arg(id = "schedule", long = "schedule", value_name = "NAME=VALUE", value_parser = setting, requires = "scheduler")]
    settings: Vec<(String, String)>,
}

impl ScheduleOptions {
    /// What is asked for, if a scheduler is.
    ///
    /// # Errors
    /// A range of training that is missing or none.
    pub(super) fn schedule(&self) -> Result<Option<Schedule>, Failure> {
        let Some(scheduler) = &self.scheduler else {
            return Ok(None);
        };
        let fidelity = match (self.max_epochs, self.min_fraction) {
            (Some(full), _) => Fidelity::epochs(self.min_epochs.unwrap_or(1), full).map_err(|error| {
                Failure::input(anyhow::anyhow!(
                    "`--min-epochs` and `--max-epochs` are no range: {error}"
                ))
            })?,
            (None, Some(least)) => Fidelity::fraction(least)
                .map_err(|error| Failure::input(anyhow::anyhow!("`--min-fraction` is no share: {error}")))?,
            (None, None) => {
                return Err(Failure::input(anyhow::anyhow!(
                    "the scheduler `{scheduler}` needs to know what full training is: give `--max-epochs COUNT`, or \
                     `--min-fraction SHARE` to schedule the share of the training data"
                )));
            }
        };
        Ok(Some(Schedule {
            scheduler: scheduler.clone(),
            settings: self.settings.clone(),
            fidelity,
        }))
    }
}

/// Lists the schedulers.
pub(super) fn list(options: &ListOptions) -> Result<u8, Failure> {
    let registry = Registry::standard();
    let text = if options.json {
        let schedulers = registry.entries().map(|entry| {
            json!({"name": entry.name, "summary": entry.summary, "settings": listing::settings_json(entry.settings)})
        });
        format!("{}\n", schedulers.collect::<Value>())
    } else {
        let mut text = String::new();
        for entry in registry.entries() {
            listing::describe(&mut text, "schedule", entry.name, entry.summary, entry.settings);
        }
        text
    };
    output::print(&text)?;
    Ok(exit::DONE)
}
