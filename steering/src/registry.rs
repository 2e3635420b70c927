//! What knows samplers and schedulers by name, and what can be set about them.

mod settings;

use protocol::error::did_you_mean;

pub use settings::{Setting, Settings};

/// Why a sampler or a scheduler could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SetupError {
    /// None has this name.
    #[error("no {kind} is called `{name}`{hint} (known are {known})")]
    Unknown {
        /// `sampler` or `scheduler`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The nearest name, if any is near.
        hint: String,
        /// All names.
        known: String,
    },
    /// There is no such setting.
    #[error("the {kind} `{owner}` has no setting `{name}`{hint}")]
    UnknownSetting {
        /// `sampler` or `scheduler`.
        kind: &'static str,
        /// Its name.
        owner: &'static str,
        /// The setting asked for.
        name: String,
        /// The nearest name, if any is near.
        hint: String,
    },
    /// The scheduler cannot schedule what is asked for.
    #[error("the scheduler `{owner}` does not work like that: {error}")]
    Unit {
        /// Its name.
        owner: &'static str,
        /// Why.
        error: crate::schedulers::FidelityError,
    },
    /// The value of a setting is not acceptable.
    #[error("the setting `{name}` of the {kind} `{owner}` must be {expected}, found `{found}`")]
    BadSetting {
        /// `sampler` or `scheduler`.
        kind: &'static str,
        /// Its name.
        owner: &'static str,
        /// The setting.
        name: &'static str,
        /// What is acceptable.
        expected: &'static str,
        /// What was given.
        found: String,
    },
}

/// One line of a registry; `B` is the function that makes what it names.
#[derive(Debug, Clone, Copy)]
pub struct Entry<B> {
    /// The name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What can be set about it.
    pub settings: &'static [Setting],
    /// Makes it.
    pub build: B,
}

/// All of a kind by name.
#[derive(Debug)]
pub struct Registry<B> {
    kind: &'static str,
    entries: Vec<Entry<B>>,
}

impl<B> Registry<B> {
    /// A registry of samplers or schedulers, as `kind` says.
    ///
    /// # Panics
    /// If two entries have the same name.
    #[must_use]
    pub fn new(kind: &'static str, entries: Vec<Entry<B>>) -> Self {
        for (index, entry) in entries.iter().enumerate() {
            let name = entry.name;
            assert!(
                entries[..index].iter().all(|other| other.name != name),
                "the {kind} `{name}` is registered twice"
            );
        }
        Self { kind, entries }
    }

    /// The entries, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<B>> {
        self.entries.iter()
    }

    /// The entry `name`; `aliases` are further names that an error tells of.
    ///
    /// # Errors
    /// [`SetupError::Unknown`].
    pub(crate) fn find<'a>(&self, name: &str, aliases: impl Iterator<Item = &'a str>) -> Result<&Entry<B>, SetupError> {
        let names = || self.entries.iter().map(|entry| entry.name);
        let entry = self.entries.iter().find(|entry| entry.name == name);
        entry.ok_or_else(|| SetupError::Unknown {
            kind: self.kind,
            name: name.to_owned(),
            hint: did_you_mean(name, names()),
            known: names().chain(aliases).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the sampler `a` is registered twice")]
    fn a_name_stands_for_one_thing() {
        let entry = Entry {
            name: "a",
            summary: "",
            settings: &[],
            build: (),
        };
        let _ = Registry::new("sampler", vec![entry, entry]);
    }
}
