//! Targets from columns: classes as numbers from 0, or real values.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::column::{Column, Table, Values};
use super::description::{Classes, TargetType};
use super::error::DatasetError;

/// More classes than this are surely a mistake: real values taken for classes, or identifiers.
const MOST_CLASSES: i64 = 100_000;

/// What the loss expects of the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Classes: one column, or the probabilities of all classes in several columns.
    ClassesOrShares,
    /// Real values.
    Values,
    /// Classes where the column holds text, booleans or integers, else values.
    Either,
}

/// The class of every row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labels {
    pub(crate) of_rows: Vec<i64>,
    pub(crate) classes: usize,
    pub(crate) names: Option<Vec<String>>,
}

/// Whether the columns are taken as classes.
pub(crate) fn are_classes(columns: &[&Column], asked: Option<TargetType>, kind: TargetKind) -> bool {
    match (asked, kind) {
        (Some(TargetType::Classes), _) => true,
        (None, TargetKind::ClassesOrShares) => matches!(columns, [column] if column.width() == 1),
        (Some(TargetType::Values), _) | (None, TargetKind::Values) => false,
        (None, TargetKind::Either) => matches!(
            columns,
            [column] if column.width() == 1 && match &column.values {
                Values::Texts(_) | Values::Integers(_) => true,
                values => (0..values.len()).all(|row| {
                    let value = values.number(row);
                    value.fract() == 0.0
                }),
            }
        ),
    }
}

/// Reads the labels of all `rows`.
pub(crate) fn labels(
    table: &Table,
    columns: &[&Column],
    classes: Option<&Classes>,
    rows: &[usize],
) -> Result<Labels, DatasetError> {
    let [column] = columns else {
        return Err(DatasetError::Shape {
            what: "targets that are classes".to_owned(),
            expected: "one column".to_owned(),
            found: format!("{} columns", columns.len()),
        });
    };
    if column.width() != 1 {
        return Err(DatasetError::Shape {
            what: format!("target `{}`, which holds classes,", column.name),
            expected: "one number or text per row".to_owned(),
            found: format!("{} (one-hot targets: store the index of the class)", column.width()),
        });
    }
    let wrong = |row: usize, finding: String| {
        let (path, row) = table.place(row);
        DatasetError::Value {
            path: path.to_owned(),
            row,
            column: column.name.clone(),
            finding,
        }
    };
    if let Values::Texts(texts) = &column.values {
        return text_labels(texts, classes, rows, &wrong);
    }
    let mut labels = Vec::with_capacity(rows.len());
    for &row in rows {
        let value = column.values.number(row);
        if value.is_nan() {
            return Err(wrong(
                row,
                "the label is missing; set `data.missing` to `drop` to leave such rows out".to_owned(),
            ));
        }
        if value.fract() != 0.0 {
            return Err(wrong(
                row,
                format!(
                    "expected a class, which is a whole number, found {value}; for regression set `data.target_type` to `values` and choose a loss such as `mse`"
                ),
            ));
        }
        if value < 0.0 {
            return Err(wrong(
                row,
                format!("expected a class from 0 up, found {value}; number the classes from 0"),
            ));
        }
        let limit = match classes {
            Some(Classes::Count(count)) => *count as i64,
            Some(Classes::Names(names)) => names.len() as i64,
            None => MOST_CLASSES,
        };
        if value >= limit as f64 {
            return Err(wrong(
                row,
                match classes {
                    Some(_) => format!(
                        "expected a class from 0 to {}, found {value}; correct the data or `data.classes`",
                        limit - 1
                    ),
                    None => format!(
                        "expected a class, found {value}; over {MOST_CLASSES} classes need `data.classes`, real values need `\"target_type\": \"values\"`"
                    ),
                },
            ));
        }
        labels.push(value as i64);
    }
    let names = match classes {
        Some(Classes::Names(names)) => Some(names.clone()),
        _ => None,
    };
    let classes = match classes {
        Some(Classes::Count(count)) => *count,
        Some(Classes::Names(names)) => names.len(),
        None => labels.iter().max().map_or(0, |label| *label as usize + 1),
    };
    Ok(Labels {
        of_rows: labels,
        classes,
        names,
    })
}

fn text_labels(
    texts: &[String],
    classes: Option<&Classes>,
    rows: &[usize],
    wrong: &dyn Fn(usize, String) -> DatasetError,
) -> Result<Labels, DatasetError> {
    if let Some(&row) = rows.iter().find(|row| texts[**row].is_empty()) {
        return Err(wrong(
            row,
            "the label is missing; set `data.missing` to `drop` to leave such rows out".to_owned(),
        ));
    }
    let names: Vec<String> = if let Some(Classes::Names(names)) = classes {
        names.clone()
    } else {
        let distinct: BTreeSet<&String> = rows.iter().map(|row| &texts[*row]).collect();
        distinct.into_iter().cloned().collect()
    };
    if let Some(Classes::Count(count)) = classes
        && *count != names.len()
    {
        return Err(DatasetError::Description {
            pointer: "/data/classes".to_owned(),
            expected: format!("{}, the number of different labels", names.len()),
            found: count.to_string(),
        });
    }
    let index: BTreeMap<&str, i64> = names.iter().map(String::as_str).zip(0..).collect();
    let labels = rows
        .iter()
        .map(|&row| {
            index.get(texts[row].as_str()).copied().ok_or_else(|| {
                wrong(
                    row,
                    format!(
                        "the label `{}` is not among `data.classes` ({})",
                        texts[row],
                        super::error::listed(&names)
                    ),
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Labels {
        of_rows: labels,
        classes: names.len(),
        names: Some(names),
    })
}
