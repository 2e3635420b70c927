//! Values that cannot be used: counted, named, and left out, filled or refused as the description says.

use std::collections::BTreeMap;

use super::column::{Column, Table, Values};
use super::description::Missing;
use super::error::DatasetError;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    Missing,
    NotANumber,
    Infinite { negative: bool },
}

/// Looks at all values of a table, at once or piece by piece.
#[derive(Debug)]
pub(crate) struct Survey {
    missing: Missing,
    usable: Vec<bool>,
    /// Row, position of the column, element, finding, whether it could be filled, and the name: the first of all.
    first: Option<(usize, usize, usize, Finding, bool, String)>,
    /// Refused values of each column.
    counts: BTreeMap<String, usize>,
}

impl Survey {
    pub(crate) fn new(missing: Missing) -> Self {
        Self {
            missing,
            usable: Vec::new(),
            first: None,
            counts: BTreeMap::new(),
        }
    }

    /// Looks at the next rows, whose inputs come before their targets.
    pub(crate) fn look(&mut self, inputs: &[&Column], targets: &[&Column]) {
        let start = self.usable.len();
        let rows = inputs.first().map_or(0, |column| column.rows());
        self.usable.resize(start + rows, true);
        let all = inputs.iter().map(|column| (column, false));
        let all = all.chain(targets.iter().map(|column| (column, true)));
        for (position, (column, is_target)) in all.enumerate() {
            let mut take =
                |index: usize, finding: Finding| self.take(start, position, column, is_target, index, finding);
            match &column.values {
                Values::Bytes(_) | Values::Integers(_) => {}
                Values::Singles(values) => each(values, |value| finding(f64::from(*value)), &mut take),
                Values::Doubles(values) => each(values, |value| finding(*value), &mut take),
                Values::Texts(texts) => each(texts, |text| text.is_empty().then_some(Finding::Missing), &mut take),
            }
        }
    }

    fn take(
        &mut self,
        start: usize,
        position: usize,
        column: &Column,
        is_target: bool,
        index: usize,
        finding: Finding,
    ) {
        let width = column.width();
        let row = start + index / width;
        if self.missing == Missing::Drop {
            self.usable[row] = false;
            return;
        }
        let fillable = !is_target && !matches!(finding, Finding::Infinite { .. });
        if fillable && matches!(self.missing, Missing::Zero | Missing::Mean) {
            return;
        }
        if let Some(count) = self.counts.get_mut(&column.name) {
            *count += 1;
        } else {
            self.counts.insert(column.name.clone(), 1);
        }
        let is_first = self
            .first
            .as_ref()
            .is_none_or(|(other_row, other_position, other, ..)| {
                (row, position, index % width) < (*other_row, *other_position, *other)
            });
        if is_first {
            self.first = Some((row, position, index % width, finding, fillable, column.name.clone()));
        }
    }

    /// The rows that may be used, ascending; `table` tells where rows come from.
    pub(crate) fn finish(self, table: &Table) -> Result<Vec<usize>, DatasetError> {
        let Some((row, _, element, finding, fillable, name)) = self.first else {
            return Ok((0..self.usable.len()).filter(|row| self.usable[*row]).collect());
        };
        let (path, row) = table.place(row);
        let is_vector = table
            .columns
            .iter()
            .find(|column| column.name == name)
            .map_or(element > 0, |column| column.width() > 1);
        let what = match finding {
            Finding::Missing => "the value is missing",
            Finding::NotANumber => "the value is missing (NaN)",
            Finding::Infinite { negative: false } => "the value is inf",
            Finding::Infinite { negative: true } => "the value is -inf",
        };
        let total: usize = self.counts.values().sum();
        let more = if total == 1 {
            String::new()
        } else {
            let mut counts: Vec<(&String, &usize)> = self.counts.iter().collect();
            counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            let shown: Vec<String> = counts
                .iter()
                .take(5)
                .map(|(name, count)| format!("{count} in `{name}`"))
                .collect();
            let rest = counts.len().saturating_sub(5);
            let rest = if rest > 0 {
                format!(" and more in {rest} other columns")
            } else {
                String::new()
            };
            format!(
                ", the first of {total} that are missing or not finite: {}{rest}",
                shown.join(", ")
            )
        };
        let remedy = if fillable {
            "; correct it, or set `data.missing` to `drop`, `zero` or `mean`"
        } else {
            "; correct it, or set `data.missing` to `drop`"
        };
        Err(DatasetError::Value {
            path: path.to_owned(),
            row,
            column: if is_vector { format!("{name}[{element}]") } else { name },
            finding: format!("{what}{more}{remedy}"),
        })
    }
}

fn finding(value: f64) -> Option<Finding> {
    if value.is_nan() {
        Some(Finding::NotANumber)
    } else if value.is_infinite() {
        Some(Finding::Infinite { negative: value < 0.0 })
    } else {
        None
    }
}

fn each<T>(values: &[T], find: impl Fn(&T) -> Option<Finding>, take: &mut dyn FnMut(usize, Finding)) {
    for (index, value) in values.iter().enumerate() {
        if let Some(finding) = find(value) {
            take(index, finding);
        }
    }
}
