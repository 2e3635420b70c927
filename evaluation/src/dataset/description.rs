//! The section `data` of the [model file](crate::model): which columns, which rows, how scaled.

mod fields;

use protocol::training_data::TrainingFile;
use serde::Deserialize;
use serde_json::Value;

use self::fields::{augment, check, check_keys, delimiter, field, files, inputs, object, selectors, split, wrong};
use super::augment::Augment;
use super::error::DatasetError;
use super::layout::ImageLayout;
use super::read::TextOptions;

const KEYS: [&str; 19] = [
    "files",
    "inputs",
    "targets",
    "target_type",
    "classes",
    "split",
    "fraction",
    "normalize",
    "scale",
    "max_rows",
    "delimiter",
    "header",
    "shape",
    "missing",
    "layout",
    "balance",
    "augment",
    "weights",
    "unscaled",
];

/// What a model file says about its data.
#[derive(Debug, Clone, PartialEq)]
pub struct DataDescription {
    /// Files to read when the command line and `input_ds.json` name none.
    pub files: Vec<TrainingFile>,
    /// The columns that the model sees.
    pub(crate) inputs: Inputs,
    /// The columns that it learns to predict.
    pub(crate) targets: Vec<Selector>,
    /// Classes or values; the loss decides where absent.
    pub(crate) target_type: Option<TargetType>,
    /// How many classes there are, or their names in order.
    pub(crate) classes: Option<Classes>,
    pub(crate) split: Split,
    /// Share of the training rows in use, in `(0, 1]`.
    pub(crate) fraction: f64,
    pub(crate) normalize: Normalize,
    /// Every input is multiplied by it, before normalisation.
    pub(crate) scale: f64,
    /// Rows beyond this are not used.
    pub(crate) max_rows: Option<usize>,
    pub(crate) text: TextOptions,
    /// Shape of one row of inputs.
    pub(crate) shape: Option<Vec<usize>>,
    pub(crate) missing: Missing,
    /// Where the channels of images are.
    pub(crate) layout: ImageLayout,
    pub(crate) balance: Balance,
    /// What may happen to the images of the training set.
    pub(crate) augment: Option<Augment>,
    /// The column that says how much each row counts.
    pub(crate) weights: Option<Selector>,
    /// Input columns that are not scaled.
    pub(crate) unscaled: Vec<Selector>,
    /// Inputs that are not scaled because the model takes them for classes.
    class_inputs: ClassInputs,
}

/// Which numbers of a row the model takes for numbers of classes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClassInputs {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those at these positions.
    At(Vec<usize>),
}

/// What is done about classes of different sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Balance {
    /// Nothing.
    None,
    /// Rows of rarer classes train several times in a pass.
    Oversample,
}

/// A column by name, or by position: 0 is the first, -1 the last.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Selector {
    Position(i64),
    Name(String),
}

/// Which columns are inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inputs {
    /// All that are neither target nor group.
    AllOthers,
    Columns(Vec<Selector>),
}

/// What the targets mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TargetType {
    Classes,
    Values,
}

/// What is known beforehand about classes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Classes {
    Count(usize),
    Names(Vec<String>),
}

/// Which rows judge a model and never train it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Split {
    /// Part of the same files.
    Part { amount: Amount, seed: u64, kind: SplitKind },
    /// Files of their own.
    Files(Vec<TrainingFile>),
}

/// How much is set apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Amount {
    /// A share of the rows, in `(0, 1)`.
    Share(f64),
    /// So many rows.
    Rows(usize),
}

/// How the rows that are set apart are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SplitKind {
    /// Any rows.
    Random,
    /// Any rows, each class in proportion.
    Stratified,
    /// Whole groups: rows with one value in this column stay together.
    Grouped(Selector),
    /// The last rows, for series in time.
    Last,
    /// Whole files.
    ByFile,
}

/// How inputs are brought to one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Normalize {
    /// Mean 0 and standard deviation 1.
    Standard,
    /// From 0 to 1.
    Minmax,
    /// As they are.
    None,
}

/// What becomes of missing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Missing {
    /// They are an error.
    Error,
    /// Rows with one are left out.
    Drop,
    /// They count as 0.
    Zero,
    /// They count as the mean over the training rows.
    Mean,
}

impl DataDescription {
    /// Reads the section `data`, in which references to hyperparameters are already filled in.
    ///
    /// # Errors
    /// Names the first wrong field by its JSON pointer.
    pub fn from_value(section: &Value) -> Result<Self, DatasetError> {
        let map = object(section, "/data", "an object with at least `targets`")?;
        check_keys(map, "/data", &KEYS)?;
        let fraction = field(map, "/data", "fraction", "a number above 0 and at most 1")?.unwrap_or(1.0);
        check(
            "/data/fraction",
            fraction > 0.0 && fraction <= 1.0,
            "above 0 and at most 1",
            fraction,
        )?;
        let scale: f64 = field(map, "/data", "scale", "a number other than 0")?.unwrap_or(1.0);
        check(
            "/data/scale",
            scale.is_finite() && scale != 0.0,
            "a finite number other than 0",
            scale,
        )?;
        let max_rows = field(map, "/data", "max_rows", "a number of rows")?;
        check("/data/max_rows", max_rows != Some(0), "at least 1", 0)?;
        let shape: Option<Vec<usize>> = field(map, "/data", "shape", "a list of lengths, such as [1, 8, 8]")?;
        check(
            "/data/shape",
            shape
                .as_ref()
                .is_none_or(|shape| !shape.is_empty() && !shape.contains(&0)),
            "a list of lengths of at least 1",
            &*format!("{:?}", shape.as_deref().unwrap_or_default()),
        )?;
        let classes = field(map, "/data", "classes", "a number of classes or a list of their names")?;
        match &classes {
            Some(Classes::Count(count)) => check("/data/classes", *count >= 2, "at least 2", count)?,
            Some(Classes::Names(names)) => check("/data/classes", names.len() >= 2, "at least 2 names", names.len())?,
            None => {}
        }
        Ok(Self {
            files: files(map.get("files"), "/data/files")?,
            inputs: inputs(map.get("inputs"))?,
            targets: match map.get("targets") {
                Some(value) => selectors(value, "/data/targets")?,
                None => return Err(wrong("/data/targets", "the column or columns to predict", "nothing")),
            },
            target_type: field(map, "/data", "target_type", "`classes` or `values`")?,
            classes,
            split: split(map.get("split"))?,
            fraction,
            normalize: field(map, "/data", "normalize", "`standard`, `minmax` or `none`")?.unwrap_or(Normalize::None),
            scale,
            max_rows,
            text: TextOptions {
                delimiter: delimiter(map)?,
                header: field(map, "/data", "header", "true or false")?,
            },
            shape,
            missing: field(map, "/data", "missing", "`error`, `drop`, `zero` or `mean`")?.unwrap_or(Missing::Error),
            layout: field(
                map,
                "/data",
                "layout",
                "`chw`, `hwc`, `hwc to chw` or `chw to hwc`: where the channels of images are",
            )?
            .unwrap_or_default(),
            balance: field(map, "/data", "balance", "`none` or `oversample`")?.unwrap_or(Balance::None),
            augment: augment(map.get("augment"))?,
            weights: field(map, "/data", "weights", "a column name or position")?,
            unscaled: match map.get("unscaled") {
                None | Some(Value::Null) => Vec::new(),
                Some(value) => selectors(value, "/data/unscaled")?,
            },
            class_inputs: ClassInputs::None,
        })
    }

    /// Leaves inputs as they are that the model takes for classes.
    #[must_use]
    pub fn with_class_inputs(mut self, inputs: ClassInputs) -> Self {
        self.class_inputs = inputs;
        self
    }

    /// Whether the number at a position of a row is left as it is for the model's sake.
    pub(crate) fn is_class_input(&self, position: usize) -> bool {
        match &self.class_inputs {
            ClassInputs::None => false,
            ClassInputs::All => true,
            ClassInputs::At(positions) => positions.contains(&position),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn little_is_needed_and_the_rest_has_defaults() {
        let data = DataDescription::from_value(&json!({"targets": "y"})).unwrap();
        assert_eq!(data.inputs, Inputs::AllOthers);
        assert_eq!(data.targets, [Selector::Name("y".to_owned())]);
        assert_eq!(
            data.split,
            Split::Part {
                amount: Amount::Share(0.2),
                seed: 0,
                kind: SplitKind::Random
            }
        );
        assert_eq!(data.normalize, Normalize::None);
    }

    #[test]
    fn wrong_fields_are_named_by_their_pointer() {
        for (section, message) in [
            (
                json!(null),
                "model file: `/data` must be an object with at least `targets`, found nothing",
            ),
            (
                json!({}),
                "model file: `/data/targets` must be the column or columns to predict, found nothing",
            ),
            (
                json!({"targets": "y", "fraction": 0}),
                "model file: `/data/fraction` must be above 0 and at most 1, found 0",
            ),
            (
                json!({"targets": "y", "normalize": "z"}),
                "model file: `/data/normalize` must be `standard`, `minmax` or `none`, found \"z\"",
            ),
            (
                json!({"targets": "y", "split": {"validation": 1.5}}),
                "model file: `/data/split/validation` must be a share between 0 and 1, or a number of rows, found 1.5",
            ),
            (
                json!({"targets": "y", "split": {"kind": "stratify"}}),
                "model file: `/data/split/kind` must be one of `random`, `stratified`, `grouped`, `last`, `by_file`, \
                 found `stratify`; did you mean `stratified`?",
            ),
            (
                json!({"targets": "y", "split": {"kind": "grouped"}}),
                "model file: `/data/split/group` must be the column whose values are the groups, found nothing",
            ),
            (
                json!({"targets": []}),
                "model file: `/data/targets` must be column names or positions, found an empty list",
            ),
            (
                json!({"targets": "y", "shape": [8, 0]}),
                "model file: `/data/shape` must be a list of lengths of at least 1, found [8, 0]",
            ),
            (
                json!({"targets": "y", "delimiter": ",,"}),
                "model file: `/data/delimiter` must be one ASCII character, such as \",\" or \"\\t\", found `,,`",
            ),
            (
                json!({"targets": "y", "classes": 1}),
                "model file: `/data/classes` must be at least 2, found 1",
            ),
            (
                json!({"targets": "y", "layout": "nhwc"}),
                "model file: `/data/layout` must be `chw`, `hwc`, `hwc to chw` or `chw to hwc`: where the channels of \
                 images are, found \"nhwc\"",
            ),
            (
                json!({"targets": "y", "augment": {"flip": "sideways"}}),
                "model file: `/data/augment/flip` must be `horizontal`, `vertical`, `both` or `none`, found `sideways`",
            ),
            (
                json!({"targets": "y", "augment": {"crop": -1}}),
                "model file: `/data/augment/crop` must be a number of pixels by which images may shift, found -1",
            ),
            (
                json!({"targets": "y", "balance": "weights"}),
                "model file: `/data/balance` must be `none` or `oversample`, found \"weights\"",
            ),
            (
                json!({"targets": "y", "weights": ["a", "b"]}),
                "model file: `/data/weights` must be a column name or position, found [\"a\",\"b\"]",
            ),
            (
                json!({"targets": "y", "max_rows": 0}),
                "model file: `/data/max_rows` must be at least 1, found 0",
            ),
        ] {
            assert_eq!(DataDescription::from_value(&section).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_unknown_key_brings_the_nearest_known_one() {
        let error = DataDescription::from_value(&json!({"targets": "y", "normalise": "none"})).unwrap_err();
        let message = error.to_string();
        assert!(
            message.ends_with("found the unknown key `normalise`; did you mean `normalize`?"),
            "{message}"
        );
    }
}
