//! What would be run: `--noSubmit`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::output::Output;
use crate::coordinator;
use crate::report::escape;
use crate::state::State;
use crate::task::{Placeholders, Settings, Task, TaskDirectory};

/// What would be run.
pub(super) struct Plan<'a> {
    pub(super) directory: &'a TaskDirectory,
    pub(super) task: &'a Task,
    pub(super) settings: &'a Settings,
}

impl Output for Plan<'_> {
    fn json(&self) -> Value {
        let state = State::new(self.settings.retry);
        let asked = coordinator::points_to_ask(&state, self.settings, &self.task.segment_ids());
        let most = self.settings.max_points * self.task.segments.len().max(1) as u32;
        let steering = Placeholders::steering(most, asked.unwrap_or(0), "idds_input.json", "output.json");
        json!({
            "task": self.task.name,
            "directory": self.directory.root().display().to_string(),
            "steering": steering.expand(&self.settings.steering_exec).command,
            "evaluations": coordinator::plan_orders(self.task, self.settings).0,
            "sandbox": self.task.sandbox.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>(),
            "training": self.task.training,
            "segments": self.task.segments,
            "options": self.task.options,
        })
    }

    fn text(&self) -> String {
        let plan = self.json();
        let mut text = format!(
            "task {} in {}\n",
            escape(&self.task.name),
            self.directory.root().display()
        );
        let _ = writeln!(
            text,
            "steering    {}",
            escape(plan["steering"].as_str().unwrap_or_default())
        );
        let names = self
            .task
            .segments
            .iter()
            .map(|segment| Some(segment.name.as_str()))
            .chain(std::iter::repeat(None));
        for (command, name) in plan["evaluations"].as_array().into_iter().flatten().zip(names) {
            let name = name.map(|name| format!("[{name}] ")).unwrap_or_default();
            let _ = writeln!(
                text,
                "evaluation  {name}{}",
                escape(command.as_str().unwrap_or_default())
            );
        }
        for file in &self.task.sandbox {
            let _ = writeln!(
                text,
                "sandbox     {} ({} bytes)",
                escape(&file.path.display().to_string()),
                file.bytes
            );
        }
        for file in self.task.training.iter().flatten() {
            let _ = writeln!(text, "training    {}", escape(file));
        }
        for (key, value) in plan["options"].as_object().into_iter().flatten() {
            let _ = writeln!(text, "option      {key} = {value}");
        }
        text.push_str("nothing was started (--noSubmit)\n");
        text
    }
}
