//! `steering samplers`.

use std::fmt::Write as _;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::ListOptions;
use super::{Failure, output};
use crate::ask::DEFAULT_SAMPLER;
use crate::registry::Setting;
use crate::samplers::{ALIASES, Registry};

pub(super) fn run(options: &ListOptions) -> Result<u8, Failure> {
    let registry = Registry::standard();
    let text = if options.json {
        as_json(&registry)
    } else {
        as_text(&registry)
    };
    output::print(&text)?;
    Ok(exit::DONE)
}

fn as_json(registry: &Registry) -> String {
    let samplers: Vec<Value> = registry
        .entries()
        .map(|entry| {
            let aliases: Vec<&str> = ALIASES
                .iter()
                .filter(|alias| alias.sampler == entry.name)
                .map(|alias| alias.name)
                .collect();
            json!({
                "name": entry.name,
                "default": entry.name == DEFAULT_SAMPLER,
                "summary": entry.summary,
                "aliases": aliases,
                "settings": settings_json(entry.settings),
            })
        })
        .collect();
    format!("{}\n", Value::from(samplers))
}

fn as_text(registry: &Registry) -> String {
    let mut text = String::new();
    for entry in registry.entries() {
        let mark = if entry.name == DEFAULT_SAMPLER {
            " (default)"
        } else {
            ""
        };
        describe(
            &mut text,
            "set",
            entry.name,
            &format!("{}{mark}", entry.summary),
            entry.settings,
        );
        let aliases: Vec<&str> = ALIASES
            .iter()
            .filter(|alias| alias.sampler == entry.name)
            .map(|alias| alias.name)
            .collect();
        if !aliases.is_empty() {
            let _ = writeln!(text, "{:9}also for {}", "", aliases.join(", "));
        }
    }
    text
}

/// Settings for programs.
pub(super) fn settings_json(settings: &[Setting]) -> Value {
    settings
        .iter()
        .map(|setting| json!({"name": setting.name, "default": setting.default, "meaning": setting.meaning}))
        .collect()
}

/// Adds a name with what it stands for and what can be set about it by `--<option>`.
pub(super) fn describe(text: &mut String, option: &str, name: &str, summary: &str, settings: &[Setting]) {
    let _ = writeln!(text, "{name:<8} {summary}");
    for setting in settings {
        let _ = writeln!(
            text,
            "{:9}--{option} {}={}  {}",
            "", setting.name, setting.default, setting.meaning
        );
    }
}
