//! Update rules: how a gradient changes a weight.
//!
//! Everything that changes between steps, or between the points of a search, is a scalar input of the graph. To add a
//! rule: write a file with an `ENTRY` and the rule's [`Update`], and list it in [`ENTRIES`] and in [`Rule`]. The tests
//! train with every registered rule's examples: against PyTorch, and through an interruption to the same bits.

mod adagrad;
mod adam;
mod lion;
mod radam;
mod rmsprop;
mod sgd;

use serde::Serialize;

use crate::graph::{Builder, ElementType, TensorType};
use crate::model::ModelError;
use crate::model::fields::Fields;
use crate::model::pattern;

pub use adagrad::Adagrad;
pub use adam::Adam;
pub use lion::Lion;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

/// Every rule.
pub(crate) const ENTRIES: [&Entry; 7] = [
    &sgd::ENTRY,
    &adam::ENTRY,
    &adam::DECOUPLED,
    &radam::ENTRY,
    &rmsprop::ENTRY,
    &adagrad::ENTRY,
    &lion::ENTRY,
];

/// What a model file can say about a rule.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name.
    pub(crate) name: &'static str,
    /// Fields besides those that all rules have.
    pub(crate) fields: &'static [&'static str],
    /// The usual learning rate.
    pub(crate) learning_rate: f64,
    /// The usual weight decay.
    pub(crate) weight_decay: f64,
    /// Reads the fields.
    pub(crate) read: fn(&Fields<'_>) -> Result<Rule, ModelError>,
    /// Sections `optimizer` that together use every branch of the rule.
    #[cfg(test)]
    pub(crate) examples: &'static [&'static str],
}

/// The rule that turns gradients into new weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Optimizer {
    /// Step size before the schedule, above 0.
    pub learning_rate: f64,
    /// Decay of the weights per step; each rule says whether it joins the gradient or acts on the weights.
    pub weight_decay: f64,
    /// Which weights decay.
    pub decay: DecayTargets,
    /// Weights with settings of their own; the first group whose patterns match counts.
    pub groups: Vec<Group>,
    /// Which rule, with its constants.
    pub rule: Rule,
}

/// Which weights the decay acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayTargets {
    /// All.
    All,
    /// Those with two axes or more: no biases, and no scales of normalisations.
    Matrices,
}

/// Settings of some of the weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Names of weights, with `*` for any text.
    pub parameters: Vec<String>,
    /// Factor of the learning rate.
    pub learning_rate_factor: f64,
    /// In place of the optimiser's.
    pub weight_decay: Option<f64>,
}

/// Update rules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is named like its type")]
pub enum Rule {
    Sgd(Sgd),
    Adam(Adam),
    RAdam(RAdam),
    RmsProp(RmsProp),
    Adagrad(Adagrad),
    Lion(Lion),
}

/// What a rule's scalars depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Learning rate of the step.
    pub(crate) learning_rate: f64,
    /// Number of the step, from 1.
    pub(crate) t: u64,
}

/// A rule as nodes of the graph. A weight `w` becomes `w - step`.
pub(crate) trait Update {
    /// Tensors like the weight that are kept from step to step: name and initial value.
    fn slots(&self) -> Vec<(&'static str, f32)>;

    /// The scalar inputs: names that do not depend on the step, and values that do.
    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)>;

    /// Whether the decay acts on the weight itself, as `w ← w (1 - learning rate × decay)`; otherwise it joins the
    /// gradient, as `g ← g + decay × w`.
    fn is_decay_decoupled(&self) -> bool {
        false
    }

    /// The operator of our own that makes the next weight and slots from the weight, the gradient, the slots and the
    /// scalars, if there is one.
    fn shortcut(&self) -> Option<&'static str> {
        None
    }

    /// Appends the step for the gradient `g`; returns it and the next values of the slots. Scalars and slots are in
    /// the order of the other methods.
    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>);
}

/// Shorthand for the nodes that rules append.
#[derive(Debug)]
pub(crate) struct Nodes<'a>(&'a mut Builder);

impl Nodes<'_> {
    pub(crate) fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.0.node(operator, inputs, Vec::new())
    }

    pub(crate) fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b])
    }

    pub(crate) fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b])
    }

    /// `a b + c`
    pub(crate) fn mul_add(&mut self, a: &str, b: &str, c: &str) -> String {
        let product = self.mul(a, b);
        self.add(&product, c)
    }
}

impl Rule {
    /// The name in model files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => sgd::ENTRY.name,
            Self::Adam(adam) if adam.decoupled => adam::DECOUPLED.name,
            Self::Adam(_) => adam::ENTRY.name,
            Self::RAdam(_) => radam::ENTRY.name,
            Self::RmsProp(_) => rmsprop::ENTRY.name,
            Self::Adagrad(_) => adagrad::ENTRY.name,
            Self::Lion(_) => lion::ENTRY.name,
        }
    }

    fn update(&self) -> &dyn Update {
        match self {
            Self::Sgd(rule) => rule,
            Self::Adam(rule) => rule,
            Self::RAdam(rule) => rule,
            Self::RmsProp(rule) => rule,
            Self::Adagrad(rule) => rule,
            Self::Lion(rule) => rule,
        }
    }

    /// Names and initial values of the slots that each weight needs.
    pub(crate) fn slots(&self) -> Vec<(&'static str, f32)> {
        self.update().slots()
    }
}

/// What distinguishes the updates of two weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    learning_rate_factor: f64,
    weight_decay: f64,
}

/// Name of the scalar of a decay.
const DECAY: &str = "decay";

impl Optimizer {
    /// The settings of each weight, given with their ranks: the different ones, and for each weight which it is.
    ///
    /// # Errors
    /// When a pattern matches no weight, in words.
    pub(crate) fn settings(&self, parameters: &[(String, usize)]) -> Result<(Vec<Settings>, Vec<usize>), String> {
        for pattern in self.groups.iter().flat_map(|group| &group.parameters) {
            if !parameters.iter().any(|(name, _)| pattern::matches(pattern, name)) {
                let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "`optimizer.groups`: no weight is named like `{pattern}`; there are {}",
                    names.join(", ")
                ));
            }
        }
        let mut all = Vec::new();
        let mut of_each = Vec::with_capacity(parameters.len());
        for (name, rank) in parameters {
            let group = self
                .groups
                .iter()
                .find(|group| group.parameters.iter().any(|pattern| pattern::matches(pattern, name)));
            let usual = if self.decay == DecayTargets::Matrices && *rank < 2 {
                0.0
            } else {
                self.weight_decay
            };
            let settings = Settings {
                learning_rate_factor: group.map_or(1.0, |group| group.learning_rate_factor),
                weight_decay: group.and_then(|group| group.weight_decay).unwrap_or(usual),
            };
            let index = all.iter().position(|other| *other == settings);
            of_each.push(index.unwrap_or(all.len()));
            if index.is_none() {
                all.push(settings);
            }
        }
        Ok((all, of_each))
    }

    /// The scalar inputs of a step: names that do not depend on the step, and values that do.
    pub(crate) fn scalars(&self, settings: Settings, learning_rate: f64, t: u64) -> Vec<(&'static str, f32)> {
        let update = self.rule.update();
        let learning_rate = learning_rate * settings.learning_rate_factor;
        let mut scalars = update.scalars(Moment { learning_rate, t });
        if settings.weight_decay > 0.0 {
            let decay = if update.is_decay_decoupled() {
                1.0 - learning_rate * settings.weight_decay
            } else {
                settings.weight_decay
            };
            scalars.push((DECAY, decay));
        }
        scalars.into_iter().map(|(name, value)| (name, value as f32)).collect()
    }

    /// Adds the scalar inputs of all settings, in the order in which they are fed.
    pub(crate) fn add_scalars(&self, builder: &mut Builder, all: &[Settings]) -> Vec<Vec<String>> {
        let mut add = |index: usize, settings: &Settings| {
            self.scalars(*settings, 0.0, 1)
                .into_iter()
                .map(|(name, _)| builder.input(&format!("feed/{index}/{name}"), TensorType::new(ElementType::F32, [])))
                .collect()
        };
        all.iter()
            .enumerate()
            .map(|(index, settings)| add(index, settings))
            .collect()
    }

    /// Appends the update of one weight; returns its next value and those of its slots.
    pub(crate) fn append(
        &self,
        builder: &mut Builder,
        settings: Settings,
        scalars: &[String],
        w: &str,
        g: &str,
        slots: &[String],
    ) -> (String, Vec<String>) {
        let update = self.rule.update();
        let mut nodes = Nodes(builder);
        let mut scalars: Vec<&str> = scalars.iter().map(String::as_str).collect();
        let decay = (settings.weight_decay > 0.0).then(|| scalars.pop().expect("the decay is the last scalar"));
        let g = match decay {
            Some(decay) if !update.is_decay_decoupled() => {
                let part = nodes.mul(w, decay);
                nodes.add(g, &part)
            }
            _ => g.to_owned(),
        };
        let (step, next_slots) = update.step(&mut nodes, &scalars, &g, slots);
        let kept = match decay {
            Some(decay) if update.is_decay_decoupled() => nodes.mul(w, decay),
            _ => w.to_owned(),
        };
        let next = nodes.op("Sub", &[&kept, &step]);
        if let Some(operator) = update.shortcut() {
            let inputs: Vec<&str> = [&kept[..], &g]
                .into_iter()
                .chain(slots.iter().map(String::as_str))
                .chain(scalars)
                .collect();
            let outputs: Vec<&str> = std::iter::once(&next).chain(&next_slots).map(String::as_str).collect();
            builder.shortcut(operator, &inputs, &outputs, Vec::new());
        }
        (next, next_slots)
    }
}
