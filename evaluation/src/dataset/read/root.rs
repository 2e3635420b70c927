//! ROOT: the branches of a tree that hold numbers, arrays of constant length, or text.
//!
//! The crate panics on files that it does not understand; such a panic becomes an error that names the branch.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use oxyroot::{Branch, RBuffer, ReaderTree, RootFile, UnmarshalerInto};

use super::{Chunks, Extent, Reader, Separate};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

/// An open ROOT file.
pub(crate) struct RootReader {
    path: PathBuf,
    trees: Vec<ReaderTree>,
    /// Tree and branch of each column.
    branches: Vec<(usize, String)>,
    names: Vec<String>,
}

impl RootReader {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let cut = "the ROOT file cannot be opened; it may be cut off, or of a kind that is not read: copy or download it \
                   again, or save its trees anew, for example with `uproot`";
        let (trees, has_ntuples) = calmly(|| {
            let mut file = RootFile::open(path).ok()?;
            let keys = file.keys();
            let has_ntuples = keys.iter().any(|key| key.class_name().ends_with("RNTuple"));
            let mut names: Vec<String> = keys
                .iter()
                .filter(|key| matches!(key.class_name(), "TTree" | "TNtuple" | "TNtupleD"))
                .map(|key| oxyroot::Named::name(key).to_owned())
                .collect();
            // Older cycles of a tree have the same name.
            names.sort();
            names.dedup();
            let trees: Option<Vec<(String, ReaderTree)>> = names
                .into_iter()
                .map(|name| file.get_tree(&name).ok().map(|tree| (name, tree)))
                .collect();
            Some((trees?, has_ntuples))
        })
        .flatten()
        .ok_or_else(|| DatasetError::damaged(path, cut))?;
        if trees.is_empty() {
            return Err(DatasetError::damaged(
                path,
                if has_ntuples {
                    "the ROOT file holds RNTuples and no tree; save it as a TTree"
                } else {
                    "the ROOT file holds no tree at its top"
                },
            ));
        }
        let (mut branches, mut names) = (Vec::new(), Vec::new());
        for (index, (tree_name, tree)) in trees.iter().enumerate() {
            for branch in tree.branches() {
                branches.push((index, branch.name().to_owned()));
                names.push(if trees.len() == 1 {
                    branch.name().to_owned()
                } else {
                    format!("{tree_name}/{}", branch.name())
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            trees: trees.into_iter().map(|(_, tree)| tree).collect(),
            branches,
            names,
        })
    }

    fn branch(&self, column: usize) -> Option<&Branch> {
        let (tree, name) = &self.branches[column];
        self.trees[*tree].branch(name)
    }

    fn rows(&self, column: usize) -> usize {
        self.branch(column).map_or(0, |branch| branch.entries().max(0) as usize)
    }

    fn column(&self, index: usize) -> Result<Column, DatasetError> {
        let name = &self.names[index];
        let bad = |reason: &str| DatasetError::damaged(&self.path, format!("branch `{name}`: {reason}"));
        let branch = self.branch(index).ok_or_else(|| bad("is not there"))?;
        let (width, values) = calmly(|| values(branch))
            .unwrap_or_else(|| {
                Err(
                    "cannot be read; save it anew as a plain branch packed by zlib or lz4, for example with `uproot`"
                        .to_owned(),
                )
            })
            .map_err(|reason| bad(&reason))?;
        Ok(Column {
            name: name.clone(),
            row_shape: width.into_iter().collect(),
            values,
        })
    }
}

impl Reader for RootReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, _: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        Ok(None)
    }

    /// A branch is always read whole: its baskets have no common borders with those of others.
    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        let wanted = wanted.to_vec();
        let rows = wanted.iter().map(|&index| self.rows(index)).max().unwrap_or(0);
        let mut whole: Option<Vec<Column>> = None;
        Ok(Box::new(Separate::new(rows, move |start, count| {
            if whole.is_none() {
                whole = Some(
                    wanted
                        .iter()
                        .map(|&index| self.column(index))
                        .collect::<Result<_, _>>()?,
                );
            }
            let columns = whole.as_ref().expect("it was read above").iter();
            Ok(columns
                .map(|column| {
                    let all = column.rows();
                    column.slice(start.min(all)..(start + count).min(all))
                })
                .collect())
        })))
    }
}

/// What `work` returns, or none when it panics; the message of the panic is for nobody.
fn calmly<T>(work: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    result.ok()
}

/// Length of a row, for arrays, and the values.
fn values(branch: &Branch) -> Result<(Option<usize>, Values), String> {
    let kind = branch.item_type_name();
    let element = kind.split('[').next().unwrap_or_default();
    let is_array = element.len() < kind.len();
    if matches!(element, "char*" | "TString" | "string") && !is_array {
        return Ok((None, Values::Texts(branch.as_iter_unchecked::<String>().collect())));
    }
    if kind.ends_with("[]") {
        return Err(format!(
            "holds arrays of different lengths (`{kind}`); save them padded to one length"
        ));
    }
    let array = is_array.then_some(());
    match element {
        "float" | "Float_t" => numbers::<f32>(branch, array, 4).map(|(width, all)| (width, Values::Singles(all))),
        "double" | "Double_t" => numbers::<f64>(branch, array, 8).map(|(width, all)| (width, Values::Doubles(all))),
        "int8_t" | "char" => converted::<i8, _>(branch, array, 1, f32::from, Values::Singles),
        "uint8_t" | "unsigned char" => converted::<u8, _>(branch, array, 1, |value| value, Values::Bytes),
        "bool" => converted::<u8, _>(branch, array, 1, |value| u8::from(value != 0), Values::Bytes),
        "int16_t" | "short" => converted::<i16, _>(branch, array, 2, f32::from, Values::Singles),
        "uint16_t" | "unsigned short" => converted::<u16, _>(branch, array, 2, f32::from, Values::Singles),
        "int32_t" | "int" => converted::<i32, _>(branch, array, 4, i64::from, Values::Integers),
        "uint32_t" | "unsigned int" => converted::<u32, _>(branch, array, 4, i64::from, Values::Integers),
        "int64_t" | "long" | "Long64_t" => converted::<i64, _>(branch, array, 8, |value| value, Values::Integers),
        "uint64_t" | "unsigned long" | "ULong64_t" => {
            converted::<u64, _>(branch, array, 8, |value| value as f64, Values::Doubles)
        }
        _ => Err(format!(
            "type `{kind}` is not read; save it as a plain branch of numbers, or leave it out of `data.inputs`"
        )),
    }
}

fn converted<T: UnmarshalerInto<Item = T>, U>(
    branch: &Branch,
    array: Option<()>,
    size: usize,
    convert: impl Fn(T) -> U,
    wrap: impl Fn(Vec<U>) -> Values,
) -> Result<(Option<usize>, Values), String> {
    let (width, all) = numbers::<T>(branch, array, size)?;
    Ok((width, wrap(all.into_iter().map(convert).collect())))
}

/// Reads a basket at its first row. Thus the length of its arrays is what is in it, which is right for those of several
/// dimensions too, whose type names only the first.
fn numbers<T: UnmarshalerInto<Item = T>>(
    branch: &Branch,
    array: Option<()>,
    size: usize,
) -> Result<(Option<usize>, Vec<T>), String> {
    let rows = branch.entries().max(0) as usize;
    let mut all = Vec::with_capacity(rows);
    if array.is_none() {
        all.extend(branch.as_iter_unchecked::<T>());
        return if all.len() == rows {
            Ok((None, all))
        } else {
            Err(format!("has {} values for {rows} rows; the file is damaged", all.len()))
        };
    }
    let baskets = branch.get_basket(|buffer: &mut RBuffer<'_>| {
        let count = buffer.len() as usize / size;
        (0..count)
            .map(|_| buffer.read_object_into::<T>())
            .collect::<Result<Vec<T>, _>>()
            .unwrap_or_default()
    });
    for basket in baskets {
        all.extend(basket);
    }
    if rows == 0 || all.len() % rows != 0 {
        return Err(format!(
            "has {} values for {rows} rows, expected as many for each",
            all.len()
        ));
    }
    Ok((Some(all.len() / rows), all))
}
