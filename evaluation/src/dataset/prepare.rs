//! From a table to what training takes: rows chosen, missing values filled, inputs scaled.

mod dividing;

use std::sync::Arc;

use dividing::{check_classes, divide};

use super::augment::ImageShape;
use super::column::{Column, Table, Values, shape_text};
use super::description::{Balance, DataDescription, Missing};
use super::error::DatasetError;
use super::gather::{InputColumn, Loaded, Needed};
use super::numbers::Numbers;
use super::rows::{FedRows, Transform};
use super::scaling::{Scaling, Units};
use super::split;
use super::store::Store;
use super::targets::{self, Labels, TargetKind};
use super::{Placement, Prepared, Summary, description};
use crate::training::{Inputs, Samples, Targets};

/// Where the two sets come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// The table is divided.
    Divide,
    /// The rows from this one on are the validation set.
    From(usize),
}

/// Prepares the table; `share` is the part of the training rows that a scheduler grants.
pub(crate) fn prepare(
    loaded: Loaded,
    needed: &Needed,
    description: &DataDescription,
    kind: TargetKind,
    share: f64,
) -> Result<Prepared, DatasetError> {
    let Loaded {
        table,
        columns: input_columns,
        store,
        survey,
        origin,
    } = loaded;
    let store = store.map(Arc::new);
    let find = |name: &String| {
        let column = table.columns.iter().find(|column| column.name == *name);
        column.expect("every needed column was read")
    };
    let target_columns: Vec<&Column> = needed.targets.iter().map(find).collect();
    let shapes = Shapes::of(&input_columns, description)?;
    let rows = survey.finish(&table)?;
    if rows.is_empty() {
        return Err(DatasetError::Split(
            "every row has a missing value and `data.missing` is `drop`: nothing is left".to_owned(),
        ));
    }
    let dropped = table.rows() - rows.len();
    let is_classes = targets::are_classes(&target_columns, description.target_type, kind);
    let labels = is_classes
        .then(|| targets::labels(&table, &target_columns, description.classes.as_ref(), &rows))
        .transpose()?;

    let parts = divide(
        &table,
        needed.group.as_ref().map(find),
        description,
        origin,
        &rows,
        labels.as_ref(),
    )?;
    let train = training_rows(&parts.train, description, share, labels.as_ref())?;
    let mut warnings = Vec::new();
    if let Some(labels) = &labels {
        check_classes(labels, &train, &parts.validation, &mut warnings)?;
    }

    let of_table = |positions: &[usize]| positions.iter().map(|at| rows[*at]).collect::<Vec<_>>();
    let (train_rows, validation_rows) = (of_table(&train), of_table(&parts.validation));
    let inputs: Vec<&Column> = if store.is_some() {
        Vec::new()
    } else {
        needed.inputs.iter().map(find).collect()
    };
    let numbers = match &store {
        Some(store) => Numbers::Stored(store, shapes.width),
        None => Numbers::Columns(&inputs),
    };
    let weights = needed
        .weights
        .as_ref()
        .map(|name| weights(&table, find(name), &rows))
        .transpose()?;
    let transform = fit(
        numbers,
        &shapes,
        &train_rows,
        &left_alone(needed, &input_columns, description),
        description,
    )?;
    let maker = Maker {
        table: &table,
        numbers,
        store: store.as_ref(),
        columns: &input_columns,
        shapes: &shapes,
        transform: &transform,
    };
    let samples = |positions: &[usize], rows: &[usize], is_train: bool| {
        Ok::<_, DatasetError>(Samples {
            row_shape: shapes.model.clone(),
            inputs: maker.inputs(rows, description, is_train)?,
            weights: weights
                .as_ref()
                .map(|weights| positions.iter().map(|at| weights[*at]).collect()),
            targets: match &labels {
                Some(labels) => Targets::Classes {
                    labels: positions.iter().map(|at| labels.of_rows[*at]).collect(),
                    classes: labels.classes,
                },
                None => values(&table, &target_columns, rows)?,
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
        row_shape: shapes.model.clone(),
        inputs: needed.inputs.len(),
        targets: needed.targets.clone(),
        classes: labels.as_ref().map(|labels| labels.classes),
        class_names: labels.as_ref().and_then(|labels| labels.names.clone()),
        placement: match &store {
            None => Placement::Resident,
            Some(store) if store.is_in_memory() => Placement::Memory,
            Some(_) => Placement::Streamed,
        },
    };
    Ok(Prepared {
        train: samples(&train, &train_rows, true)?,
        validation: samples(&parts.validation, &validation_rows, false)?,
        raw: transform.raw(&shapes.file),
        scaling: transform.scaling,
        summary,
        warnings,
    })
}

/// The rows that train, as positions among the usable ones: a share of them, balanced where asked.
fn training_rows(
    rows: &[usize],
    description: &DataDescription,
    share: f64,
    labels: Option<&Labels>,
) -> Result<Vec<usize>, DatasetError> {
    let (seed, is_stratified) = match &description.split {
        description::Split::Part { seed, kind, .. } => (*seed, *kind == description::SplitKind::Stratified),
        description::Split::Files(_) => (0, false),
    };
    let labels = labels.map(|labels| labels.of_rows.as_slice());
    let strata = labels.filter(|_| is_stratified);
    let train = split::fraction_of(rows, share * description.fraction, seed, strata);
    match (description.balance, labels) {
        (Balance::None, _) => Ok(train),
        (Balance::Oversample, Some(labels)) => Ok(split::oversampled(&train, labels, seed)),
        (Balance::Oversample, None) => Err(DatasetError::Description {
            pointer: "/data/balance".to_owned(),
            expected: "`none` where the targets are values".to_owned(),
            found: "`oversample`".to_owned(),
        }),
    }
}

/// Shapes of a row.
struct Shapes {
    file: Vec<usize>,
    model: Vec<usize>,
    /// Numbers in a row.
    width: usize,
    image: Option<ImageShape>,
}

impl Shapes {
    fn of(inputs: &[InputColumn], description: &DataDescription) -> Result<Self, DatasetError> {
        let file = row_shape(inputs, description)?;
        let layout = description.layout;
        let model = layout.of_model(&file);
        let image = ImageShape::of(&model, layout.is_last_in_model());
        if description.augment.is_some() && image.is_none() {
            return Err(DatasetError::Shape {
                what: "inputs that are mirrored or shifted (`data.augment`)".to_owned(),
                expected: "images, such as rows of shape 3 x 32 x 32".to_owned(),
                found: format!("rows of shape {}; give `data.shape`", shape_text(&model)),
            });
        }
        if let (Some(augment), Some(image)) = (&description.augment, image)
            && augment.pad >= image.height.min(image.width)
        {
            return Err(DatasetError::Description {
                pointer: "/data/augment/crop".to_owned(),
                expected: format!("less than the {} pixels of a side", image.height.min(image.width)),
                found: augment.pad.to_string(),
            });
        }
        Ok(Self {
            width: file.iter().product(),
            file,
            model,
            image,
        })
    }
}

/// Finds the constants of the transformation on the training rows.
fn fit(
    numbers: Numbers<'_>,
    shapes: &Shapes,
    train: &[usize],
    left_alone: &[usize],
    description: &DataDescription,
) -> Result<Transform, DatasetError> {
    let width = shapes.width;
    let fill = match description.missing {
        Missing::Error | Missing::Drop => None,
        Missing::Zero => Some(vec![0.0; width]),
        Missing::Mean => {
            let mut sums = vec![(0.0, 0.0); width];
            numbers.each_block(train, &mut |_, block| {
                for row in block.chunks_exact(width) {
                    for (sum, value) in sums.iter_mut().zip(row).filter(|(_, value)| !value.is_nan()) {
                        sum.0 += value;
                        sum.1 += 1.0;
                    }
                }
                Ok(())
            })?;
            let mean = |(sum, count): (f64, f64)| sum / count.max(1.0);
            Some(sums.into_iter().map(mean).collect())
        }
    };
    let units = Units::of(&shapes.file, description.layout.is_last_in_file());
    let mut unit_of: Vec<u32> = (0..width).map(|element| units.unit(element) as u32).collect();
    // What is left alone must not count in what is not: where units are shared it has one of its own.
    let mut count = units.count;
    if !left_alone.is_empty() && units.count < width {
        for element in left_alone {
            unit_of[*element] = count as u32;
        }
        count += 1;
    }
    let scale = description.scale;
    let mut scaling = Scaling::fit(description.normalize, scale, count, |take| {
        numbers.each_block(train, &mut |_, block| {
            for row in block.chunks_exact(width) {
                for (element, (value, unit)) in row.iter().zip(&unit_of).enumerate() {
                    let value = match &fill {
                        Some(fill) if value.is_nan() => fill[element],
                        _ => *value,
                    };
                    take(*unit as usize, value * scale);
                }
            }
            Ok(())
        })
    })?;
    scaling.leave(left_alone.iter().map(|element| unit_of[*element] as usize), count);
    scaling.layout = description.layout;
    scaling.fill.clone_from(&fill);
    Ok(Transform {
        fill,
        scaling,
        units: unit_of,
        order: description.layout.order(&shapes.file),
    })
}

/// The numbers of a row that are not scaled.
fn left_alone(needed: &Needed, columns: &[InputColumn], description: &DataDescription) -> Vec<usize> {
    let mut elements = Vec::new();
    let mut first = 0;
    for column in columns {
        let last = first + column.width();
        let is_named = needed.unscaled.contains(&column.name);
        elements.extend((first..last).filter(|element| is_named || description.is_class_input(*element)));
        first = last;
    }
    elements
}

/// How much each of `rows` counts.
fn weights(table: &Table, column: &Column, rows: &[usize]) -> Result<Vec<f32>, DatasetError> {
    if column.width() != 1 || matches!(column.values, Values::Texts(_)) {
        return Err(DatasetError::Shape {
            what: format!("weights `{}`", column.name),
            expected: "one number per row".to_owned(),
            found: column.describe(),
        });
    }
    rows.iter()
        .map(|row| {
            let weight = column.values.number(*row);
            if weight >= 0.0 && weight <= f64::from(f32::MAX) {
                return Ok(weight as f32);
            }
            let (path, row) = table.place(*row);
            Err(DatasetError::Value {
                path: path.to_owned(),
                row,
                column: column.name.clone(),
                finding: format!("a weight must be at least 0, found {weight}; correct it or leave such rows out"),
            })
        })
        .collect()
}

/// Makes the inputs of a set of rows.
struct Maker<'a> {
    table: &'a Table,
    numbers: Numbers<'a>,
    store: Option<&'a Arc<Store>>,
    columns: &'a [InputColumn],
    shapes: &'a Shapes,
    transform: &'a Transform,
}

impl Maker<'_> {
    fn inputs(&self, rows: &[usize], description: &DataDescription, is_train: bool) -> Result<Inputs, DatasetError> {
        let width = self.shapes.width;
        if let Some(store) = self.store {
            let augment = description.augment.filter(|_| is_train).zip(self.shapes.image);
            let rows = FedRows::new(Arc::clone(store), rows.to_vec(), self.transform.clone(), augment);
            return Ok(Inputs::Fed(Arc::new(rows)));
        }
        let mut out = vec![0.0f32; rows.len() * width];
        self.numbers.each_block(rows, &mut |first, block| {
            let out = out[first * width..].chunks_exact_mut(width);
            block
                .chunks_exact(width)
                .zip(out)
                .for_each(|(row, out)| self.transform.apply(row, out));
            Ok(())
        })?;
        if let Some(at) = out.iter().position(|value| !value.is_finite()) {
            let (path, row) = self.table.place(rows[at / width]);
            let element = match &self.transform.order {
                Some(order) => order[at % width],
                None => at % width,
            };
            return Err(DatasetError::Value {
                path: path.to_owned(),
                row,
                column: name_of_element(self.columns, element),
                finding: "the value is too large for single precision; use `\"normalize\": \"standard\"` or a `scale`"
                    .to_owned(),
            });
        }
        Ok(out.into())
    }
}

/// The shape of a row of inputs, as the file has it or as the description asks.
fn row_shape(inputs: &[InputColumn], description: &DataDescription) -> Result<Vec<usize>, DatasetError> {
    if let Some(text) = inputs.iter().find(|column| column.is_text) {
        return Err(DatasetError::Shape {
            what: format!("input `{}`", text.name),
            expected: "numbers".to_owned(),
            found: "text; encode it as numbers or leave it out of `data.inputs`".to_owned(),
        });
    }
    let width: usize = inputs.iter().map(InputColumn::width).sum();
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

fn name_of_element(columns: &[InputColumn], mut element: usize) -> String {
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
    let mut values = Vec::with_capacity(rows.len() * width);
    Numbers::Columns(columns).each_block(rows, &mut |_, block| {
        values.extend(block.iter().map(|value| *value as f32));
        Ok(())
    })?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (path, row) = table.place(rows[at / width]);
        return Err(DatasetError::Value {
            path: path.to_owned(),
            row,
            column: name_of_element(
                &columns.iter().map(|column| InputColumn::of(column)).collect::<Vec<_>>(),
                at % width,
            ),
            finding: "the target is too large for single precision; divide it before saving".to_owned(),
        });
    }
    Ok(Targets::Values { width, values })
}
