//! NumPy's `.npy`: a magic string, a Python dictionary with dtype, order and shape, then the raw values.
//!
//! Every boolean, integer, float and string dtype is read, in both byte orders and in C and Fortran order.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::{Chunks, Extent, Reader};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;
use crate::dataset::store::{Element, Segment};

/// A `.npy` file: one column, named like the file without its extension.
#[derive(Debug)]
pub(crate) struct NpyReader {
    path: PathBuf,
    names: Vec<String>,
}

impl NpyReader {
    pub(crate) fn new(path: &Path) -> Self {
        let stem = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Self {
            path: path.to_owned(),
            names: vec![stem],
        }
    }
}

impl NpyReader {
    fn array(&self) -> Result<NpyArray<BufReader<File>>, DatasetError> {
        let file = File::open(&self.path).map_err(|error| DatasetError::io(&self.path, error))?;
        NpyArray::open(&self.path, &self.names[0], BufReader::new(file))
    }
}

impl Reader for NpyReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        let extent = self.array()?.extent();
        Ok(Some(vec![extent; wanted.len()]))
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        let arrays = wanted.iter().map(|_| self.array()).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(Arrays(arrays)))
    }

    fn plain(&self, _: usize) -> Result<Option<Segment>, DatasetError> {
        let mut array = self.array()?;
        let Header { dtype, fortran, .. } = &array.header;
        let element = match (dtype.kind, dtype.size) {
            (b'u', 1) => Element::Byte,
            (b'f', 4) => Element::Single,
            (b'f', 8) => Element::Double,
            _ => return Ok(None),
        };
        let in_order = !fortran || array.header.shape.len() == 1;
        if dtype.big_endian || !in_order || cfg!(target_endian = "big") {
            return Ok(None);
        }
        let offset = array
            .input
            .stream_position()
            .map_err(|error| DatasetError::io(&self.path, error))?;
        let Extent { rows, width } = array.extent();
        Segment::new(&self.path, offset, rows, vec![(element, width)]).map(Some)
    }
}

/// Several arrays that are read side by side.
pub(crate) struct Arrays<R>(pub(crate) Vec<NpyArray<R>>);

impl<R: Read> Chunks for Arrays<R> {
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError> {
        self.0.iter_mut().map(|array| array.next(rows)).collect()
    }
}

/// An array in npy form, read from its first row on.
pub(crate) struct NpyArray<R> {
    path: PathBuf,
    name: String,
    input: R,
    header: Header,
    left: usize,
    /// An array in Fortran order, which must be read whole, in C order.
    whole: Option<Column>,
}

impl<R: Read> NpyArray<R> {
    /// `name` is the column's name and goes into messages.
    pub(crate) fn open(path: &Path, name: &str, mut input: R) -> Result<Self, DatasetError> {
        let bad = |reason: String| DatasetError::damaged(path, format!("array `{name}`: {reason}"));
        let header = read_header(&mut input).map_err(|problem| match problem {
            Problem::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                bad("cut off within the header; copy or download the file again".to_owned())
            }
            Problem::Io(error) => bad(error.to_string()),
            Problem::Format(reason) => bad(reason),
        })?;
        let Some(&left) = header.shape.first() else {
            return Err(bad("holds a single value, an array of rows is needed".to_owned()));
        };
        header
            .shape
            .iter()
            .try_fold(header.dtype.size, |product, &length| product.checked_mul(length))
            .ok_or_else(|| bad("the shape in the header is impossibly large".to_owned()))?;
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            input,
            header,
            left,
            whole: None,
        })
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent {
            rows: self.header.shape[0],
            width: self.header.shape[1..].iter().product(),
        }
    }

    pub(crate) fn next(&mut self, rows: usize) -> Result<Column, DatasetError> {
        let count = rows.min(self.left);
        if self.header.fortran && self.header.shape.len() > 1 {
            let all = self.header.shape[0];
            if self.whole.is_none() {
                self.whole = Some(self.decode(all)?);
            }
            let first = all - self.left;
            self.left -= count;
            let whole = self.whole.as_ref().expect("it was read above");
            return Ok(whole.slice(first..first + count));
        }
        let column = self.decode(count)?;
        self.left -= count;
        Ok(column)
    }

    /// Reads and converts `rows` rows.
    fn decode(&mut self, rows: usize) -> Result<Column, DatasetError> {
        let Header { dtype, fortran, shape } = &self.header;
        let (path, name) = (&self.path, &self.name);
        let bad = |reason: String| DatasetError::damaged(path, format!("array `{name}`: {reason}"));
        let mut shape = shape.clone();
        let all = std::mem::replace(&mut shape[0], rows);
        let bytes = shape.iter().product::<usize>() * dtype.size;
        let mut raw = Vec::new();
        self.input
            .by_ref()
            .take(bytes as u64)
            .read_to_end(&mut raw)
            .map_err(|error| bad(format!("cannot be read: {error}")))?;
        if raw.len() < bytes {
            let row = bytes / rows.max(1);
            return Err(bad(format!(
                "cut off: {all} rows need {} bytes, the file has {}; copy or download it again",
                all * row,
                (all - self.left) * row + raw.len()
            )));
        }
        if dtype.big_endian {
            let unit = if dtype.kind == b'U' { 4 } else { dtype.size };
            raw.chunks_exact_mut(unit.max(1)).for_each(<[u8]>::reverse);
        }
        if *fortran && shape.len() > 1 {
            raw = c_order(&raw, &shape, dtype.size);
        }
        let values = decode(raw, dtype).map_err(bad)?;
        Ok(Column {
            name: name.clone(),
            row_shape: shape[1..].to_vec(),
            values,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Dtype {
    big_endian: bool,
    /// NumPy's letter: `b`oolean, `i`nteger, `u`nsigned, `f`loat, `U`nicode, byte `S`tring.
    kind: u8,
    /// Bytes per element.
    size: usize,
}

#[derive(Debug)]
struct Header {
    dtype: Dtype,
    fortran: bool,
    shape: Vec<usize>,
}

enum Problem {
    Io(std::io::Error),
    Format(String),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_header(input: &mut impl Read) -> Result<Header, Problem> {
    let mut start = [0; 8];
    input.read_exact(&mut start)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err(Problem::Format("is not in npy form".to_owned()));
    }
    let length = if start[6] == 1 {
        let mut bytes = [0; 2];
        input.read_exact(&mut bytes)?;
        usize::from(u16::from_le_bytes(bytes))
    } else {
        let mut bytes = [0; 4];
        input.read_exact(&mut bytes)?;
        u32::from_le_bytes(bytes) as usize
    };
    if length > 1 << 20 {
        return Err(Problem::Format("the header is over 1 MiB long".to_owned()));
    }
    let mut text = vec![0; length];
    input.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    parse_header(&text).map_err(Problem::Format)
}

fn parse_header(text: &str) -> Result<Header, String> {
    let field = |key: &str| {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let start = quoted
            .iter()
            .find_map(|quoted| text.find(quoted).map(|at| at + quoted.len()))?;
        Some(text[start..].trim_start().strip_prefix(':')?.trim_start())
    };
    let broken = |key: &str| format!("the header has no readable `{key}`");

    let descr = field("descr").ok_or_else(|| broken("descr"))?;
    if descr.starts_with('[') {
        return Err("a structured dtype is not read; save each field as an array of its own".to_owned());
    }
    let quote = descr
        .chars()
        .next()
        .filter(|c| *c == '\'' || *c == '"')
        .ok_or_else(|| broken("descr"))?;
    let descr = descr[1..].split(quote).next().unwrap_or_default();
    let fortran = field("fortran_order")
        .ok_or_else(|| broken("fortran_order"))?
        .starts_with("True");
    let shape = field("shape")
        .and_then(|shape| shape.strip_prefix('('))
        .and_then(|shape| shape.split(')').next())
        .ok_or_else(|| broken("shape"))?;
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
        .map(|length| length.trim_end_matches('L').parse::<usize>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| broken("shape"))?;
    Ok(Header {
        dtype: parse_dtype(descr)?,
        fortran,
        shape,
    })
}

fn parse_dtype(text: &str) -> Result<Dtype, String> {
    let (order, rest) = match text.as_bytes().first() {
        Some(b'<' | b'|' | b'=') => (false, &text[1..]),
        Some(b'>') => (true, &text[1..]),
        _ => (false, text),
    };
    let kind = rest.as_bytes().first().copied().unwrap_or(b'?');
    let units: usize = rest.get(1..).unwrap_or_default().parse().unwrap_or(0);
    let size = if kind == b'U' { units.saturating_mul(4) } else { units };
    match (kind, size) {
        (b'b', 1) | (b'i' | b'u', 1 | 2 | 4 | 8) | (b'f', 2 | 4 | 8) | (b'U' | b'S', 1..=1_048_576) => {}
        (b'O', _) => {
            return Err(
                "holds pickled Python objects, which are not read; convert it with `.astype(...)` before saving"
                    .to_owned(),
            );
        }
        (b'M' | b'm', _) => return Err(format!("dtype `{text}` is a date; save it as a number")),
        (b'c', _) => {
            return Err(format!("dtype `{text}` is complex; save real and imaginary parts"));
        }
        _ => {
            return Err(format!("dtype `{text}` is not read; save it as float32 or int64"));
        }
    }
    Ok(Dtype {
        big_endian: order,
        kind,
        size,
    })
}

/// Moves elements from Fortran order, first index fastest, to C order, last index fastest.
fn c_order(raw: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..raw.len() / size {
        let from: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        out.extend_from_slice(&raw[from * size..(from + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

/// Values from little-endian bytes in C order.
fn decode(raw: Vec<u8>, dtype: &Dtype) -> Result<Values, String> {
    fn each<const N: usize, T>(raw: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks::<N>().0.iter().map(|bytes| convert(*bytes)).collect()
    }
    if matches!((dtype.kind, dtype.size), (b'u', 1)) {
        return Ok(Values::Bytes(raw));
    }
    let raw = raw.as_slice();
    Ok(match (dtype.kind, dtype.size) {
        (b'f', 2) => Values::Singles(each(raw, |bytes| half_to_single(u16::from_le_bytes(bytes)))),
        (b'f', 4) => Values::Singles(each(raw, f32::from_le_bytes)),
        (b'f', _) => Values::Doubles(each(raw, f64::from_le_bytes)),
        (b'b', _) => Values::Bytes(each(raw, |[byte]| u8::from(byte != 0))),
        (b'i', 1) => Values::Singles(each(raw, |bytes| f32::from(i8::from_le_bytes(bytes)))),
        (b'i', 2) => Values::Singles(each(raw, |bytes| f32::from(i16::from_le_bytes(bytes)))),
        (b'i', 4) => Values::Integers(each(raw, |bytes| i64::from(i32::from_le_bytes(bytes)))),
        (b'i', _) => Values::Integers(each(raw, i64::from_le_bytes)),
        (b'u', 2) => Values::Singles(each(raw, |bytes| f32::from(u16::from_le_bytes(bytes)))),
        (b'u', 4) => Values::Integers(each(raw, |bytes| i64::from(u32::from_le_bytes(bytes)))),
        (b'u', _) => {
            let wide = each(raw, u64::from_le_bytes);
            if wide.iter().all(|value| i64::try_from(*value).is_ok()) {
                Values::Integers(wide.into_iter().map(|value| value as i64).collect())
            } else {
                Values::Doubles(wide.into_iter().map(|value| value as f64).collect())
            }
        }
        (b'U', size) => Values::Texts(
            raw.chunks_exact(size)
                .map(|text| {
                    let text: Option<String> = text
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|code| u32::from_le_bytes(*code))
                        .take_while(|code| *code != 0)
                        .map(char::from_u32)
                        .collect();
                    text.ok_or_else(|| "holds a string that is not Unicode".to_owned())
                })
                .collect::<Result<_, _>>()?,
        ),
        (_, size) => Values::Texts(
            raw.chunks_exact(size)
                .map(|text| {
                    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                    std::str::from_utf8(&text[..end])
                        .map(str::to_owned)
                        .map_err(|_| "holds a string that is not UTF-8".to_owned())
                })
                .collect::<Result<_, _>>()?,
        ),
    })
}

/// IEEE 754 binary16 to binary32, exactly.
pub(crate) fn half_to_single(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((half >> 10) & 0x1f);
    let fraction = f32::from(half & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction > 0.0 => f32::NAN,
        31 => f32::INFINITY,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.bytes());
        out.extend(data);
        out
    }

    fn read(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Result<Column, String> {
        NpyArray::open(Path::new("a.npy"), "a", file(descr, fortran, shape, data).as_slice())
            .and_then(|mut array| array.next(usize::MAX))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn byte_orders_give_the_same_values() {
        let little: Vec<u8> = [1i32, -2].iter().flat_map(|value| value.to_le_bytes()).collect();
        let big: Vec<u8> = [1i32, -2].iter().flat_map(|value| value.to_be_bytes()).collect();
        let expected = Values::Integers(vec![1, -2]);
        assert_eq!(read("<i4", "False", "(2,)", &little).unwrap().values, expected);
        assert_eq!(read(">i4", "False", "(2,)", &big).unwrap().values, expected);
    }

    #[test]
    fn fortran_order_is_turned_into_rows() {
        let column = read("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6]).unwrap();
        assert_eq!(column.row_shape, [3]);
        assert_eq!(column.values, Values::Bytes(vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_95),
        ] {
            assert!((half_to_single(bits) - value).abs() <= f32::EPSILON * value.abs() * 0.1);
        }
        assert!(half_to_single(0x7c00).is_infinite());
        assert!(half_to_single(0x7e00).is_nan());
    }

    #[test]
    fn strings_are_read_in_both_forms() {
        let wide: Vec<u8> = "aé".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        assert_eq!(
            read("<U2", "False", "(1,)", &wide).unwrap().values,
            Values::Texts(vec!["aé".to_owned()])
        );
        assert_eq!(
            read("|S3", "False", "(2,)", b"ab\0cde").unwrap().values,
            Values::Texts(vec!["ab".to_owned(), "cde".to_owned()])
        );
    }

    #[test]
    fn a_file_that_is_cut_off_says_how_much_is_missing() {
        let message = read("<f4", "False", "(4, 2)", &[0; 20]).unwrap_err();
        assert_eq!(
            message,
            "training data `a.npy`: array `a`: cut off: 4 rows need 32 bytes, the file has 20; copy or download it again"
        );
    }

    #[test]
    fn dtypes_that_cannot_be_read_name_the_remedy() {
        let object = read("|O", "False", "(1,)", &[]).unwrap_err();
        assert!(
            object.contains("pickled Python objects") && object.contains("astype"),
            "{object}"
        );
        let date = read("<M8[ns]", "False", "(1,)", &[]).unwrap_err();
        assert!(date.contains("is a date"), "{date}");
        let single = read("<f4", "False", "()", &[0; 4]).unwrap_err();
        assert!(single.contains("holds a single value"), "{single}");
        let huge = read("<f8", "False", "(9223372036854775807, 4)", &[]).unwrap_err();
        assert!(huge.contains("impossibly large"), "{huge}");
    }
}
