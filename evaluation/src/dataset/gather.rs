//! From file names to one table with the columns that are needed.

use std::path::{Path, PathBuf};

use protocol::error::did_you_mean;
use protocol::training_data::TrainingFile;

use super::column::{Column, Source, Table, Values};
use super::description::{DataDescription, Inputs, Selector};
use super::error::{DatasetError, listed};
use super::fetch::{self, FetchOptions, Remote};
use super::prepare::Origin;
use super::read::{self, Chunks, Extent, Reader, TextOptions};
use super::store::{Segment, Store};
use super::survey::Survey;

/// Turns each name into a local file: URLs are fetched, relative paths start at `base`, sums are checked.
pub(crate) fn locate(
    files: &[TrainingFile],
    base: &Path,
    fetching: &FetchOptions,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<PathBuf>, DatasetError> {
    files
        .iter()
        .map(|file| locate_one(file, base, fetching, note))
        .collect()
}

fn locate_one(
    file: &TrainingFile,
    base: &Path,
    fetching: &FetchOptions,
    note: &mut dyn FnMut(&str),
) -> Result<PathBuf, DatasetError> {
    let location = file.location();
    if location.contains("://") {
        let remote = Remote::new(location, file.sha256())?;
        return Ok(fetch::fetch(&remote, fetching, note)?);
    }
    let path = base.join(location);
    if !path.exists() {
        return Err(DatasetError::Missing {
            hint: missing_hint(&path),
            path,
        });
    }
    if let Some(expected) = file.sha256() {
        let found = fetch::sha256_of(&path).map_err(|error| DatasetError::io(&path, error))?;
        if !found.eq_ignore_ascii_case(expected) {
            return Err(DatasetError::damaged(
                &path,
                format!("wrong content, its SHA-256 must be {expected}, found {found}"),
            ));
        }
    }
    Ok(path)
}

/// The nearest name in the directory, or that there is no such directory.
fn missing_hint(path: &Path) -> String {
    let directory = path
        .parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(directory) else {
        return format!(", and there is no directory `{}`", directory.display());
    };
    let names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    did_you_mean(&wanted, names.iter().map(String::as_str))
}

/// The columns that a description needs, by name, as found in the first file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) inputs: Vec<String>,
    pub(crate) targets: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) weights: Option<String>,
    /// Inputs that are not scaled.
    pub(crate) unscaled: Vec<String>,
}

impl Needed {
    /// All names once, inputs first, then targets, then group and weights.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let others = self.group.iter().chain(&self.weights);
        for name in self.inputs.iter().chain(&self.targets).chain(others) {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        all
    }

    /// Whether a column must hold a value in every row without being an input.
    pub(crate) fn is_required(&self, name: &String) -> bool {
        self.targets.contains(name) || self.weights.as_ref() == Some(name)
    }
}

/// A reader with the file that messages name.
pub(crate) type Opened = (PathBuf, Box<dyn Reader>);

/// Opens files; arrays in `.npy` files with different names are columns of one table.
pub(crate) fn open_all(paths: &[PathBuf], text: TextOptions) -> Result<Vec<Opened>, DatasetError> {
    let mut opened = Vec::with_capacity(paths.len());
    for path in paths {
        opened.push((path.clone(), read::open(path, text)?));
    }
    let single_arrays = opened.iter().all(|(path, reader)| {
        reader.names().len() == 1 && path.extension().is_some_and(|extension| extension == "npy")
    });
    if !single_arrays {
        return Ok(opened);
    }
    let mut sets: Vec<(PathBuf, Joined)> = Vec::new();
    for (path, reader) in opened {
        match sets.last_mut() {
            Some((_, set)) if !set.names.contains(&reader.names()[0]) => set.push(reader),
            _ => {
                let mut set = Joined::default();
                set.push(reader);
                sets.push((path, set));
            }
        }
    }
    Ok(sets
        .into_iter()
        .map(|(path, set)| (path, Box::new(set) as Box<dyn Reader>))
        .collect())
}

/// Several files with one array each.
#[derive(Default)]
struct Joined {
    names: Vec<String>,
    readers: Vec<Box<dyn Reader>>,
}

impl Joined {
    fn push(&mut self, reader: Box<dyn Reader>) {
        self.names.push(reader.names()[0].clone());
        self.readers.push(reader);
    }
}

impl Reader for Joined {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        let mut extents = Vec::with_capacity(wanted.len());
        for &index in wanted {
            match self.readers[index].extents(&[0])? {
                Some(extent) => extents.extend(extent),
                None => return Ok(None),
            }
        }
        Ok(Some(extents))
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        // A column that is wanted twice would need its reader twice.
        let mut readers: Vec<Option<&'a mut Box<dyn Reader>>> = self.readers.iter_mut().map(Some).collect();
        let mut parts = Vec::with_capacity(wanted.len());
        for &index in wanted {
            let reader = readers[index].take().expect("no column is wanted twice");
            parts.push(reader.chunks(&[0])?);
        }
        Ok(Box::new(SideBySide(parts)))
    }

    fn plain(&self, index: usize) -> Result<Option<Segment>, DatasetError> {
        self.readers[index].plain(0)
    }
}

struct SideBySide<'a>(Vec<Box<dyn Chunks + 'a>>);

impl Chunks for SideBySide<'_> {
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError> {
        let mut columns = Vec::with_capacity(self.0.len());
        for part in &mut self.0 {
            columns.append(&mut part.next(rows)?);
        }
        Ok(columns)
    }
}

/// Decides which columns are meant, from the names in the first file.
pub(crate) fn needed(
    path: &Path,
    names: &[String],
    description: &DataDescription,
    group: Option<&Selector>,
) -> Result<Needed, DatasetError> {
    let find_all = |selectors: &[Selector]| {
        selectors
            .iter()
            .map(|selector| find(path, names, selector))
            .collect::<Result<Vec<_>, _>>()
    };
    let targets = find_all(&description.targets)?;
    let find_one = |selector: &Selector| find(path, names, selector);
    let group = group.map(find_one).transpose()?;
    let weights = description.weights.as_ref().map(find_one).transpose()?;
    let inputs = match &description.inputs {
        Inputs::Columns(selectors) => find_all(selectors)?,
        Inputs::AllOthers => {
            let others: Vec<String> = names
                .iter()
                .filter(|name| !targets.contains(name))
                .filter(|name| group.as_ref() != Some(name) && weights.as_ref() != Some(name))
                .cloned()
                .collect();
            if others.is_empty() {
                return Err(DatasetError::UnknownColumn {
                    path: path.to_owned(),
                    wanted: "all others".to_owned(),
                    nearest: String::new(),
                    known: listed(names),
                });
            }
            others
        }
    };
    if let Some(name) = inputs.iter().find(|name| targets.contains(name)) {
        return Err(DatasetError::Description {
            pointer: "/data/inputs".to_owned(),
            expected: "columns that are not targets".to_owned(),
            found: format!("`{name}` in both"),
        });
    }
    let unscaled = find_all(&description.unscaled)?;
    if let Some(name) = unscaled.iter().find(|name| !inputs.contains(name)) {
        return Err(DatasetError::Description {
            pointer: "/data/unscaled".to_owned(),
            expected: "columns that are inputs".to_owned(),
            found: format!("`{name}`, which is none"),
        });
    }
    Ok(Needed {
        inputs,
        targets,
        group,
        weights,
        unscaled,
    })
}

fn find(path: &Path, names: &[String], selector: &Selector) -> Result<String, DatasetError> {
    let unknown = |wanted: String, nearest: String| DatasetError::UnknownColumn {
        path: path.to_owned(),
        wanted,
        nearest,
        known: listed(names),
    };
    match selector {
        Selector::Name(name) if names.contains(name) => Ok(name.clone()),
        Selector::Name(name) => Err(unknown(
            name.clone(),
            did_you_mean(name, names.iter().map(String::as_str)),
        )),
        Selector::Position(position) => {
            let count = names.len() as i64;
            let index = if *position < 0 { position + count } else { *position };
            usize::try_from(index)
                .ok()
                .and_then(|index| names.get(index))
                .cloned()
                .ok_or_else(|| unknown(position.to_string(), String::new()))
        }
    }
}

/// What an input column is like, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputColumn {
    pub(crate) name: String,
    pub(crate) row_shape: Vec<usize>,
    pub(crate) is_text: bool,
}

impl InputColumn {
    pub(crate) fn of(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            row_shape: column.row_shape.clone(),
            is_text: matches!(column.values, Values::Texts(_)),
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.row_shape.iter().product()
    }
}

/// Everything that was read.
pub(crate) struct Loaded {
    /// All columns, or those that are no inputs where the inputs are in a store.
    pub(crate) table: Table,
    pub(crate) columns: Vec<InputColumn>,
    pub(crate) store: Option<Store>,
    pub(crate) survey: Survey,
    pub(crate) origin: Origin,
}

/// Position of each wanted name in a file.
pub(crate) fn positions(path: &Path, names: &[String], wanted: &[String]) -> Result<Vec<usize>, DatasetError> {
    wanted
        .iter()
        .map(|name| {
            names
                .iter()
                .position(|other| other == name)
                .ok_or_else(|| DatasetError::UnknownColumn {
                    path: path.to_owned(),
                    wanted: name.clone(),
                    nearest: did_you_mean(name, names.iter().map(String::as_str)),
                    known: listed(names),
                })
        })
        .collect()
}

/// Bytes that the inputs of all files take as numbers for training, from what the files say, or their size.
pub(crate) fn estimate(readers: &mut [Opened], inputs: &[String]) -> Result<u64, DatasetError> {
    let mut bytes = 0;
    for (path, reader) in readers {
        let indices = positions(path, reader.names(), inputs)?;
        bytes += if let Some(extents) = reader.extents(&indices)? {
            extents
                .iter()
                .map(|extent| {
                    (extent.rows as u64)
                        .saturating_mul(extent.width as u64)
                        .saturating_mul(4)
                })
                .sum::<u64>()
        } else {
            let size = std::fs::metadata(&*path).map_or(0, |metadata| metadata.len());
            let share = inputs.len() as f64 / reader.names().len().max(1) as f64;
            // Text is about as long as the numbers in it; compressed files are a few times smaller.
            let is_text = path.extension().is_some_and(|extension| extension != "gz");
            (size as f64 * share * if is_text { 2.0 } else { 8.0 }) as u64
        };
    }
    Ok(bytes)
}

/// Reads everything into memory.
pub(crate) fn load(
    needed: &Needed,
    description: &DataDescription,
    training: Vec<Opened>,
    validation: Option<Vec<Opened>>,
) -> Result<Loaded, DatasetError> {
    let wanted = needed.all();
    let mut table = read_table(training, &wanted, description.max_rows)?;
    let origin = match validation {
        None => Origin::Divide,
        Some(files) => {
            let rows = table.rows();
            table.append(read_table(files, &wanted, None)?)?;
            Origin::From(rows)
        }
    };
    let find = |name: &String| {
        let column = table.columns.iter().find(|column| column.name == *name);
        column.expect("every needed column was read")
    };
    let inputs: Vec<&Column> = needed.inputs.iter().map(find).collect();
    let targets: Vec<&Column> = needed.targets.iter().chain(&needed.weights).map(find).collect();
    let mut survey = Survey::new(description.missing);
    survey.look(&inputs, &targets);
    Ok(Loaded {
        columns: inputs.into_iter().map(InputColumn::of).collect(),
        table,
        store: None,
        survey,
        origin,
    })
}

/// Reads the named columns of all files and puts the files below one another.
pub(crate) fn read_table(
    readers: Vec<Opened>,
    wanted: &[String],
    max_rows: Option<usize>,
) -> Result<Table, DatasetError> {
    let mut whole: Option<Table> = None;
    for (path, mut reader) in readers {
        if let (Some(table), Some(limit)) = (&whole, max_rows)
            && table.rows() >= limit
        {
            break;
        }
        let indices = positions(&path, reader.names(), wanted)?;
        let columns = reader.read(&indices)?;
        let table = checked(path, columns)?;
        match &mut whole {
            None => whole = Some(table),
            Some(whole) => whole.append(table)?,
        }
    }
    let mut table = whole.expect("there is at least one file");
    if let Some(limit) = max_rows
        && table.rows() > limit
    {
        table.truncate(limit);
    }
    Ok(table)
}

fn checked(path: PathBuf, columns: Vec<Column>) -> Result<Table, DatasetError> {
    let first = &columns[0];
    let rows = first.rows();
    if let Some(other) = columns.iter().find(|column| column.rows() != rows) {
        return Err(DatasetError::RowCount {
            path,
            column: other.name.clone(),
            found: other.rows(),
            other: first.name.clone(),
            expected: rows,
        });
    }
    if rows == 0 {
        return Err(DatasetError::NoRows { path });
    }
    Ok(Table {
        sources: vec![Source { path, rows }],
        columns,
    })
}
