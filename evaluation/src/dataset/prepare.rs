//! From a table to what training takes: rows chosen, missing values filled, inputs scaled.

use std::collections::BTreeSet;

use super::column::{Column, Table, Values, shape_text};
use super::description::{DataDescription, Missing};
use super::error::DatasetError;
use super::gather::Needed;
use super::scaling::{Scaling, Units};
use super::split::{self, Parts, RowTraits};
use super::targets::{self, Labels, TargetKind};
use super::{Prepared, Summary, description};
use crate::training::{Samples, Targets};

/// Where the two sets come from.
pub(crate) enum Origin {
    /// The table is divided.
    Divide,
    /// The rows from this one on are the validation set.
    From(usize),
}

/// Prepares the table; `share` is the part of the training rows that a scheduler grants.
pub(crate) fn prepare(
    table: &Table,
    needed: &Needed,
    description: &DataDescription,
    origin: &Origin,
    kind: TargetKind,
    share: f64,
) -> Result<Prepared, DatasetError> {
    let find = |name: &String| {
        let column = table.columns.iter().find(|column| column.name == *name);
        column.expect("every needed column was read")
    };
    let inputs: Vec<&Column> = needed.inputs.iter().map(find).collect();
    let target_columns: Vec<&Column> = needed.targets.iter().map(find).collect();
    let row_shape = row_shape(&inputs, description)?;

    let rows = usable_rows(table, &inputs, &target_columns, description.missing)?;
    if rows.is_empty() {
        return Err(DatasetError::Split(
            "every row has a missing value and `data.missing` is `drop`: nothing is left".to_owned(),
        ));
    }
    let dropped = table.rows() - rows.len();
    let is_classes = targets::are_classes(&target_columns, description.target_type, kind);
    let labels = is_classes
        .then(|| targets::labels(table, &target_columns, description.classes.as_ref(), &rows))
        .transpose()?;

    let parts = divide(
        table,
        needed.group.as_ref().map(find),
        description,
        origin,
        &rows,
        labels.as_ref(),
    )?;
    let seed = match &description.split {
        description::Split::Part { seed, .. } => *seed,
        description::Split::Files(_) => 0,
    };
    let train = split::fraction_of(&parts.train, share * description.fraction, seed);
    let mut warnings = Vec::new();
    if let Some(labels) = &labels {
        check_classes(labels, &train, &parts.validation, &mut warnings)?;
    }

    let of_table = |positions: &[usize]| positions.iter().map(|at| rows[*at]).collect::<Vec<_>>();
    let (train_rows, validation_rows) = (of_table(&train), of_table(&parts.validation));
    let filler = Filler::fit(&inputs, &train_rows, description.missing);
    let units = Units::of(&row_shape);
    let scaling = Scaling::fit(description.normalize, description.scale, units.count, |take| {
        each_number(&inputs, &filler, &train_rows, &mut |_, element, value| {
            take(units.unit(element), value * description.scale);
        });
    });

    let samples = |positions: &[usize], rows: &[usize]| {
        Ok::<_, DatasetError>(Samples {
            row_shape: row_shape.clone(),
            inputs: scaled(table, &inputs, &filler, &scaling, units, rows)?.into(),
            targets: match &labels {
                Some(labels) => Targets::Classes {
                    labels: positions.iter().map(|at| labels.of_rows[*at]).collect(),
                    classes: labels.classes,
                },
                None => values(table, &target_columns, rows)?,
            },
        })
    };
    let summary = Summary {
        files: table
            .sources
            .iter()
            .map(|source| {
                source
                    .path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect(),
        rows: table.rows(),
        dropped_rows: dropped,
        training_rows: train.len(),
        validation_rows: parts.validation.len(),
        row_shape: row_shape.clone(),
        inputs: needed.inputs.len(),
        targets: needed.targets.clone(),
        classes: labels.as_ref().map(|labels| labels.classes),
        class_names: labels.as_ref().and_then(|labels| labels.names.clone()),
    };
    Ok(Prepared {
        train: samples(&train, &train_rows)?,
        validation: samples(&parts.validation, &validation_rows)?,
        scaling,
        summary,
        warnings,
    })
}

/// The shape of a row of inputs, as the file has it or as the description asks.
fn row_shape(inputs: &[&Column], description: &DataDescription) -> Result<Vec<usize>, DatasetError> {
    if let Some(text) = inputs.iter().find(|column| matches!(column.values, Values::Texts(_))) {
        return Err(DatasetError::Shape {
            what: format!("input `{}`", text.name),
            expected: "numbers".to_owned(),
            found: "text; encode it as numbers or leave it out of `data.inputs`".to_owned(),
        });
    }
    let width: usize = inputs.iter().map(|column| column.width()).sum();
    let natural = match inputs {
        [single] if !single.row_shape.is_empty() => single.row_shape.clone(),
        _ => vec![width],
    };
    if width == 0 {
        return Err(DatasetError::Shape {
            what: "inputs".to_owned(),
            expected: "at least one number per row".to_owned(),
            found: format!("rows of shape {}", shape_text(&natural)),
        });
    }
    match &description.shape {
        None => Ok(natural),
        Some(shape) if shape.iter().product::<usize>() == width => Ok(shape.clone()),
        Some(shape) => Err(DatasetError::Shape {
            what: "`data.shape`".to_owned(),
            expected: format!("a shape of {width} numbers, as many as a row of the inputs has"),
            found: format!("{} = {} numbers", shape_text(shape), shape.iter().product::<usize>()),
        }),
    }
}

/// The rows that may be used; an error where a bad value may not be left out or filled.
fn usable_rows(
    table: &Table,
    inputs: &[&Column],
    targets: &[&Column],
    missing: Missing,
) -> Result<Vec<usize>, DatasetError> {
    let mut usable = vec![true; table.rows()];
    for (column, is_target) in inputs
        .iter()
        .map(|column| (column, false))
        .chain(targets.iter().map(|column| (column, true)))
    {
        let width = column.width();
        for index in 0..column.values.len() {
            let finding = match &column.values {
                Values::Texts(texts) if texts[index].is_empty() => "the value is missing".to_owned(),
                Values::Texts(_) | Values::Integers(_) => continue,
                values => match values.number(index) {
                    value if value.is_nan() => "the value is missing (NaN)".to_owned(),
                    value if value.is_infinite() => format!("the value is {value}"),
                    _ => continue,
                },
            };
            if missing == Missing::Drop {
                usable[index / width] = false;
                continue;
            }
            let fillable = finding.contains("missing") && !is_target;
            if fillable && matches!(missing, Missing::Zero | Missing::Mean) {
                continue;
            }
            let (path, row) = table.place(index / width);
            let name = if width == 1 {
                column.name.clone()
            } else {
                format!("{}[{}]", column.name, index % width)
            };
            let remedy = if fillable {
                "; correct it, or set `data.missing` to `drop`, `zero` or `mean`"
            } else {
                "; correct it, or set `data.missing` to `drop`"
            };
            return Err(DatasetError::Value {
                path: path.to_owned(),
                row,
                column: name,
                finding: finding + remedy,
            });
        }
    }
    Ok((0..table.rows()).filter(|row| usable[*row]).collect())
}

/// Positions in `rows` of both sets.
fn divide(
    table: &Table,
    group: Option<&Column>,
    description: &DataDescription,
    origin: &Origin,
    rows: &[usize],
    labels: Option<&Labels>,
) -> Result<Parts, DatasetError> {
    if let Origin::From(first) = origin {
        let (train, validation): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|at| rows[*at] < *first);
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

fn check_classes(
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

/// What stands for a missing input, one value per element of a row.
struct Filler(Option<Vec<f64>>);

impl Filler {
    fn fit(inputs: &[&Column], train: &[usize], missing: Missing) -> Self {
        let width: usize = inputs.iter().map(|column| column.width()).sum();
        match missing {
            Missing::Error | Missing::Drop => Self(None),
            Missing::Zero => Self(Some(vec![0.0; width])),
            Missing::Mean => {
                let mut sums = vec![(0.0, 0.0); width];
                each_number(inputs, &Self(None), train, &mut |_, element, value| {
                    if !value.is_nan() {
                        sums[element].0 += value;
                        sums[element].1 += 1.0;
                    }
                });
                Self(Some(
                    sums.into_iter()
                        .map(|(sum, count): (f64, f64)| sum / count.max(1.0))
                        .collect(),
                ))
            }
        }
    }

    fn value(&self, element: usize, value: f64) -> f64 {
        match &self.0 {
            Some(fill) if value.is_nan() => fill[element],
            _ => value,
        }
    }
}

/// Calls `take` with position in `rows`, element of the row and value, for every input number.
fn each_number(inputs: &[&Column], filler: &Filler, rows: &[usize], take: &mut dyn FnMut(usize, usize, f64)) {
    let mut offset = 0;
    for column in inputs {
        let width = column.width();
        for (position, row) in rows.iter().enumerate() {
            for element in 0..width {
                let value = column.values.number(row * width + element);
                take(position, offset + element, filler.value(offset + element, value));
            }
        }
        offset += width;
    }
}

fn scaled(
    table: &Table,
    inputs: &[&Column],
    filler: &Filler,
    scaling: &Scaling,
    units: Units,
    rows: &[usize],
) -> Result<Vec<f32>, DatasetError> {
    let width: usize = inputs.iter().map(|column| column.width()).sum();
    let mut out = vec![0.0f32; rows.len() * width];
    each_number(inputs, filler, rows, &mut |position, element, value| {
        out[position * width + element] = scaling.apply(units.unit(element), value) as f32;
    });
    if let Some(at) = out.iter().position(|value| !value.is_finite()) {
        let (path, row) = table.place(rows[at / width]);
        return Err(DatasetError::Value {
            path: path.to_owned(),
            row,
            column: name_of_element(inputs, at % width),
            finding: "the value is too large for single precision; use `\"normalize\": \"standard\"` or a `scale`"
                .to_owned(),
        });
    }
    Ok(out)
}

fn name_of_element(columns: &[&Column], mut element: usize) -> String {
    for column in columns {
        match column.width() {
            1 if element == 0 => return column.name.clone(),
            width if element < width => return format!("{}[{element}]", column.name),
            width => element -= width,
        }
    }
    panic!("the element is beyond the row");
}

fn values(table: &Table, columns: &[&Column], rows: &[usize]) -> Result<Targets, DatasetError> {
    if let Some(text) = columns.iter().find(|column| matches!(column.values, Values::Texts(_))) {
        return Err(DatasetError::Shape {
            what: format!("target `{}`", text.name),
            expected: "numbers for this loss".to_owned(),
            found: "text; for classes use the loss `cross_entropy`".to_owned(),
        });
    }
    let width: usize = columns.iter().map(|column| column.width()).sum();
    if width == 0 {
        return Err(DatasetError::Shape {
            what: "targets".to_owned(),
            expected: "at least one number per row".to_owned(),
            found: "none".to_owned(),
        });
    }
    let mut values = vec![0.0f32; rows.len() * width];
    each_number(columns, &Filler(None), rows, &mut |position, element, value| {
        values[position * width + element] = value as f32;
    });
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (path, row) = table.place(rows[at / width]);
        return Err(DatasetError::Value {
            path: path.to_owned(),
            row,
            column: name_of_element(columns, at % width),
            finding: "the target is too large for single precision; divide it before saving".to_owned(),
        });
    }
    Ok(Targets::Values { width, values })
}
