//! What can be set about a sampler or a scheduler, given as `name=value` on the command line.

use std::str::FromStr;

use protocol::error::did_you_mean;

use super::SetupError;

/// One thing that can be set.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value unless given.
    pub default: &'static str,
    /// What it means, with its range.
    pub meaning: &'static str,
}

/// The settings of one sampler or scheduler, defaults filled in.
#[derive(Debug)]
pub struct Settings {
    kind: &'static str,
    owner: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Settings {
    /// The settings that `owner`, a sampler or a scheduler as `kind` says, declares, with values from `given`.
    pub(crate) fn of(
        kind: &'static str,
        owner: &'static str,
        declared: &[Setting],
        given: &[(String, String)],
    ) -> Result<Self, SetupError> {
        let mut values: Vec<(&'static str, String)> = declared
            .iter()
            .map(|setting| (setting.name, setting.default.to_owned()))
            .collect();
        for (name, value) in given {
            let known = values.iter_mut().find(|(known, _)| known == name);
            let known = known.ok_or_else(|| SetupError::UnknownSetting {
                kind,
                owner,
                name: name.clone(),
                hint: did_you_mean(name, declared.iter().map(|setting| setting.name)),
            })?;
            known.1.clone_from(value);
        }
        Ok(Self { kind, owner, values })
    }

    /// The setting `name`, which must satisfy `accept`; `expected` says what that is.
    ///
    /// # Errors
    /// [`SetupError::BadSetting`].
    ///
    /// # Panics
    /// If its owner does not declare the setting.
    pub fn get<T: FromStr>(
        &self,
        name: &'static str,
        expected: &'static str,
        accept: impl Fn(&T) -> bool,
    ) -> Result<T, SetupError> {
        let (_, text) = self
            .values
            .iter()
            .find(|(known, _)| *known == name)
            .expect("samplers and schedulers read the settings they declare");
        text.parse().ok().filter(accept).ok_or_else(|| SetupError::BadSetting {
            kind: self.kind,
            owner: self.owner,
            name,
            expected,
            found: text.clone(),
        })
    }
}
