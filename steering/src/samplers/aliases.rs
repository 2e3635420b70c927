//! The names under which other programs know their optimisers.
//!
//! hpogrid chooses a library by name. Each of those names is accepted and stands for the sampler of ours that does the same or,
//! where we have none, for the best one we have.

/// A foreign name and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The foreign name.
    pub name: &'static str,
    /// The sampler of ours.
    pub sampler: &'static str,
}

/// The libraries of hpogrid that are not samplers of ours by the same name.
pub const ALIASES: [Alias; 6] = [
    Alias {
        name: "nevergrad",
        sampler: "tpe",
    },
    Alias {
        name: "skopt",
        sampler: "gp",
    },
    Alias {
        name: "hyperopt",
        sampler: "tpe",
    },
    Alias {
        name: "optuna",
        sampler: "tpe",
    },
    Alias {
        name: "ax",
        sampler: "gp",
    },
    Alias {
        name: "bohb",
        sampler: "tpe",
    },
];

/// The sampler that `library` stands for, in any case of letters. hpogrid's `method` names an optimiser of nevergrad: those that
/// only spread points at random or evenly are taken literally.
#[must_use]
pub fn resolve(library: &str, method: Option<&str>) -> String {
    let library = library.to_lowercase();
    if library == "nevergrad"
        && let Some(method) = method
    {
        let method = method.to_lowercase();
        if method.contains("randomsearch") {
            return "random".into();
        }
        if ["halton", "hammersley", "lhs", "sobol"]
            .iter()
            .any(|kind| method.contains(kind))
        {
            return "sobol".into();
        }
    }
    ALIASES
        .iter()
        .find(|alias| alias.name == library)
        .map_or(library, |alias| alias.sampler.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;

    #[test]
    fn every_alias_leads_to_a_sampler() {
        let registry = Registry::standard();
        for alias in ALIASES {
            assert!(registry.build(alias.sampler, &[]).is_ok(), "{}", alias.name);
            assert!(
                registry.build(alias.name, &[]).is_err(),
                "{} hides a sampler",
                alias.name
            );
        }
    }

    #[test]
    fn names_are_taken_in_any_case_and_nevergrad_methods_literally() {
        assert_eq!(resolve("NeverGrad", None), "tpe");
        assert_eq!(resolve("nevergrad", Some("RandomSearch")), "random");
        assert_eq!(resolve("nevergrad", Some("ScrHammersleySearch")), "sobol");
        assert_eq!(resolve("nevergrad", Some("OnePlusOne")), "tpe");
        assert_eq!(resolve("GRID", Some("RandomSearch")), "grid");
    }
}
