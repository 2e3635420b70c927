//! How many evaluations and how much training a scheduler will ask for.

/// What a scheduler does with a number of configurations, if all evaluations succeed and every promotion is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The brackets that have configurations; one for schedulers without brackets.
    pub brackets: Vec<PlannedBracket>,
}

/// A step of a two-step search over shares of the data, whose rungs are epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedStep {
    /// 1 or 2. The configurations of the second are some of the first.
    pub number: u64,
    /// The share, in units of fidelity.
    pub share: u64,
    /// Epochs of full training.
    pub full: u64,
}

/// One ladder of rungs.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedBracket {
    /// Its number, as in `hpo.b`.
    pub bracket: u64,
    /// The step that it is, where its rungs are epochs beside a share of the data.
    pub step: Option<PlannedStep>,
    /// What each rung grants in total, and how many evaluations it sees; rising.
    pub rungs: Vec<(u64, u64)>,
}

impl PlannedBracket {
    /// Evaluations, of all rungs together.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.rungs.iter().map(|(_, count)| count).sum()
    }

    /// Training in units of fidelity, if every evaluation goes on from the checkpoint of the one before it.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        let before = std::iter::once(0).chain(self.rungs.iter().map(|(resource, _)| *resource));
        let further = self.rungs.iter().zip(before);
        self.units(
            further
                .map(|((resource, count), before)| (resource - before) * count)
                .sum(),
        )
    }

    /// Training in units of fidelity, if every evaluation begins anew.
    #[must_use]
    pub fn anew(&self) -> u64 {
        self.units(self.rungs.iter().map(|(resource, count)| resource * count).sum())
    }

    /// A sum of what stands in the rungs, in units of fidelity.
    fn units(&self, sum: u64) -> u64 {
        let scaled = |step: PlannedStep| u128::from(sum) * u128::from(step.share) / u128::from(step.full.max(1));
        self.step.map_or(sum, |step| scaled(step) as u64)
    }
}

impl Plan {
    /// Configurations that are begun.
    #[must_use]
    pub fn configurations(&self) -> u64 {
        self.sum(|bracket| match bracket.step {
            Some(PlannedStep { number: 2, .. }) => 0,
            _ => bracket.rungs.first().map_or(0, |(_, count)| *count),
        })
    }

    /// Evaluations: what `--maxPoints` counts.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.sum(PlannedBracket::evaluations)
    }

    /// The sum of a quantity over the brackets.
    pub fn sum(&self, of: impl Fn(&PlannedBracket) -> u64) -> u64 {
        self.brackets.iter().map(of).sum()
    }
}
