//! `steering samplers`.

use std::fmt::Write as _;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::ListOptions;
use super::{Failure, output};
use crate::ask::DEFAULT_SAMPLER;
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
            let settings: Vec<Value> = entry
                .settings
                .iter()
                .map(|setting| json!({"name": setting.name, "default": setting.default, "meaning": setting.meaning}))
                .collect();
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
                "settings": settings,
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
        let _ = writeln!(text, "{:<8} {}{mark}", entry.name, entry.summary);
        for setting in entry.settings {
            let _ = writeln!(
                text,
                "{:9}--set {}={}  {}",
                "", setting.name, setting.default, setting.meaning
            );
        }
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
