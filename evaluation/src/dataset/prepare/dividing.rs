//! Which of the chosen rows train and which validate.

use std::collections::BTreeSet;

use super::Origin;
use crate::dataset::column::{Column, Table, Values};
use crate::dataset::description::{self, DataDescription};
use crate::dataset::error::DatasetError;
use crate::dataset::split::{self, Parts, RowTraits};
use crate::dataset::targets::Labels;

/// Positions in `rows` of both sets.
pub(super) fn divide(
    table: &Table,
    group: Option<&Column>,
    description: &DataDescription,
    origin: Origin,
    rows: &[usize],
    labels: Option<&Labels>,
) -> Result<Parts, DatasetError> {
    if let Origin::From(first) = origin {
        let (train, validation): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|at| rows[*at] < first);
        if train.is_empty() || validation.is_empty() {
            let what = if train.is_empty() { "training" } else { "validation" };
            return Err(DatasetError::Split(format!(
                "no {what} rows are left after rows with missing values are dropped"
            )));
        }
        return Ok(Parts { train, validation });
    }
    let description::Split::Part { amount, seed, kind } = &description.split else {
        unreachable!("files of their own come with `Origin::From`");
    };
    let file_of_rows = table.file_of_rows();
    let files: Vec<usize> = rows.iter().map(|row| file_of_rows[*row]).collect();
    let groups = group.map(|column| group_ids(column, rows));
    let traits = RowTraits {
        labels: labels.map(|labels| labels.of_rows.as_slice()),
        groups: groups.as_deref(),
        files: &files,
    };
    split::split(rows.len(), *amount, *seed, kind, traits).map_err(DatasetError::Split)
}

/// Numbers the different values of a column in their order.
fn group_ids(column: &Column, rows: &[usize]) -> Vec<usize> {
    let width = column.width();
    let text = |row: usize| match &column.values {
        Values::Texts(texts) => texts[row * width..(row + 1) * width].join("\n"),
        Values::Integers(values) => format!("{:?}", &values[row * width..(row + 1) * width]),
        values => {
            let numbers: Vec<f64> = (row * width..(row + 1) * width).map(|at| values.number(at)).collect();
            format!("{numbers:?}")
        }
    };
    let distinct: BTreeSet<String> = rows.iter().map(|row| text(*row)).collect();
    let distinct: Vec<String> = distinct.into_iter().collect();
    rows.iter()
        .map(|row| {
            distinct
                .binary_search(&text(*row))
                .expect("every value is among the distinct ones")
        })
        .collect()
}

/// Fails without two classes to tell apart; warns of classes that are validated only.
pub(super) fn check_classes(
    labels: &Labels,
    train: &[usize],
    validation: &[usize],
    warnings: &mut Vec<String>,
) -> Result<(), DatasetError> {
    let seen = |rows: &[usize]| rows.iter().map(|at| labels.of_rows[*at]).collect::<BTreeSet<_>>();
    let (in_train, in_validation) = (seen(train), seen(validation));
    let name = |label: i64| match &labels.names {
        Some(names) => format!("`{}`", names[label as usize]),
        None => label.to_string(),
    };
    if in_train.len() < 2 {
        let only = in_train.first().map_or_else(String::new, |label| name(*label));
        return Err(DatasetError::Split(format!(
            "all {} training rows are of class {only}; there is nothing to learn: shuffle the data or use another `data.split`",
            train.len()
        )));
    }
    if let Some(label) = in_validation.difference(&in_train).next() {
        warnings.push(format!(
            "class {} is in the validation set but not in the training set; `\"kind\": \"stratified\"` avoids that",
            name(*label)
        ));
    }
    Ok(())
}
