//! Reading the tables of an `SQLite` database from its bytes, by the published file format (version 3).
//!
//! | word | meaning |
//! | --- | --- |
//! | page | unit of the file; number 1 is the first |
//! | cell | one row of a table, or one pointer to a page of rows |
//! | usable size | bytes of a page less those reserved at its end |
//! | varint | a number of 1 to 9 bytes, seven bits each and eight in the ninth, most significant first |
//!
//! Only whole tables are read, in the order of their row numbers: indices are not looked at.

use std::path::Path;

/// The first bytes of every database.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// Deepest tree of pages that is followed; one of 20 levels would be larger than any disk.
const DEEPEST: usize = 20;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob,
}

impl Cell {
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Cell::Integer(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn real(&self) -> Option<f64> {
        match self {
            Cell::Integer(value) => Some(*value as f64),
            Cell::Real(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A table: its columns, and its rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The values of `wanted` columns, row by row; `Null` for columns that the table does not have.
    pub(super) fn select<'a, const N: usize>(&'a self, wanted: [&str; N]) -> impl Iterator<Item = [&'a Cell; N]> {
        let places = wanted.map(|name| self.columns.iter().position(|column| column == name));
        self.rows
            .iter()
            .map(move |row| places.map(|place| place.and_then(|place| row.get(place)).unwrap_or(&Cell::Null)))
    }
}

/// A database in memory.
pub(super) struct Database {
    bytes: Vec<u8>,
    page_size: usize,
    usable: usize,
}

/// Refuses a database beside which lies what was not yet written into it.
pub(super) fn check_companions(path: &Path) -> Result<(), String> {
    for ending in ["-wal", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        if std::fs::metadata(&name).is_ok_and(|found| found.len() > 0) {
            return Err(format!(
                "`{}` holds changes that are not in the database yet; end what writes it, and let `sqlite3 {} 'PRAGMA wal_checkpoint(TRUNCATE)'` write them",
                Path::new(&name).display(),
                path.display()
            ));
        }
    }
    Ok(())
}

impl Database {
    pub(super) fn new(bytes: Vec<u8>) -> Result<Database, String> {
        let word = |at: usize| {
            bytes
                .get(at..at + 2)
                .map_or(0, |two| usize::from(two[0]) << 8 | usize::from(two[1]))
        };
        if !bytes.starts_with(MAGIC) || bytes.len() < 100 {
            return Err("it is not a database of SQLite 3".to_owned());
        }
        let page_size = if word(16) == 1 { 65_536 } else { word(16) };
        let usable = page_size.saturating_sub(usize::from(bytes[20]));
        if !page_size.is_power_of_two() || usable < 480 {
            return Err(format!("its page size of {page_size} bytes cannot be"));
        }
        if word(58) != 1 && word(58) != 0 {
            return Err(
                "its text is in UTF-16, UTF-8 is read; `VACUUM INTO` a database with `PRAGMA encoding = 'UTF-8'`"
                    .to_owned(),
            );
        }
        Ok(Database {
            bytes,
            page_size,
            usable,
        })
    }

    /// The table called `name`; an empty one if there is none.
    pub(super) fn table(&self, name: &str) -> Result<Table, String> {
        let schema = self.rows(1)?;
        for (_, row) in schema {
            // type, name, table, page, statement
            if let [
                Cell::Text(kind),
                Cell::Text(found),
                _,
                Cell::Integer(page),
                Cell::Text(statement),
            ] = &row[..]
                && kind == "table"
                && found == name
            {
                let (columns, key) = columns(statement);
                let page = usize::try_from(*page).map_err(|_| damaged("a page number"))?;
                let rows = self.rows(page)?.into_iter();
                let rows = rows.map(|(number, mut row)| {
                    // The column that is the number of its row is stored as nothing.
                    if let Some(Cell::Null) = key.and_then(|key| row.get(key))
                        && let Some(key) = key
                    {
                        row[key] = Cell::Integer(number);
                    }
                    row
                });
                return Ok(Table {
                    columns,
                    rows: rows.collect(),
                });
            }
        }
        Ok(Table::default())
    }

    fn page(&self, number: usize) -> Result<&[u8], String> {
        let begin = number
            .checked_sub(1)
            .and_then(|before| before.checked_mul(self.page_size));
        begin
            .and_then(|begin| self.bytes.get(begin..begin + self.page_size))
            .ok_or_else(|| damaged("a page number"))
    }

    /// All rows of the tree at a page, with their numbers.
    fn rows(&self, root: usize) -> Result<Vec<(i64, Vec<Cell>)>, String> {
        let mut rows = Vec::new();
        let mut left = self.bytes.len() / self.page_size;
        self.walk(root, 0, &mut left, &mut rows)?;
        Ok(rows)
    }

    /// `left` is how many pages may yet be visited: a sound tree has each page once.
    fn walk(
        &self,
        number: usize,
        depth: usize,
        left: &mut usize,
        rows: &mut Vec<(i64, Vec<Cell>)>,
    ) -> Result<(), String> {
        *left = left
            .checked_sub(1)
            .filter(|_| depth < DEEPEST)
            .ok_or_else(|| damaged("its tree"))?;
        let page = self.page(number)?;
        // The first page begins with the header of the file.
        let head = if number == 1 { 100 } else { 0 };
        let count = big_endian(page, head + 3, 2)?;
        let is_leaf = match page[head] {
            13 => true,
            5 => false,
            _ => return Err(damaged("the kind of a page")),
        };
        let pointers = head + if is_leaf { 8 } else { 12 };
        for index in 0..count {
            let at = big_endian(page, pointers + 2 * index, 2)?;
            if is_leaf {
                rows.push(self.row(page, at)?);
            } else {
                self.walk(big_endian(page, at, 4)?, depth + 1, left, rows)?;
            }
        }
        if !is_leaf {
            self.walk(big_endian(page, head + 8, 4)?, depth + 1, left, rows)?;
        }
        Ok(())
    }

    fn row(&self, page: &[u8], at: usize) -> Result<(i64, Vec<Cell>), String> {
        let mut rest = page.get(at..self.usable).ok_or_else(|| damaged("a cell"))?;
        let length = usize::try_from(varint(&mut rest)?).map_err(|_| damaged("a length"))?;
        let number = varint(&mut rest)?;
        let largest = self.usable - 35;
        if length <= largest {
            let payload = rest.get(..length).ok_or_else(|| damaged("a row"))?;
            return Ok((number, record(payload)?));
        }
        // The rest lies on a chain of further pages.
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (self.usable - 4);
        let local = if wanted <= largest { wanted } else { least };
        if length > self.bytes.len() {
            return Err(damaged("a length"));
        }
        let mut payload = rest.get(..local).ok_or_else(|| damaged("a row"))?.to_vec();
        let mut next = big_endian(rest, local, 4)?;
        while payload.len() < length {
            let page = self.page(next)?;
            let part = (length - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(&page[4..4 + part]);
            next = big_endian(page, 0, 4)?;
        }
        Ok((number, record(&payload)?))
    }
}

fn damaged(what: &str) -> String {
    format!("the database is damaged: {what} is wrong; `sqlite3 FILE .recover` may help")
}

fn big_endian(bytes: &[u8], at: usize, count: usize) -> Result<usize, String> {
    let bytes = bytes.get(at..at + count).ok_or_else(|| damaged("an offset"))?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// Takes a varint off the front.
fn varint(bytes: &mut &[u8]) -> Result<i64, String> {
    let mut number = 0_u64;
    for index in 0..9 {
        let (byte, rest) = bytes.split_first().ok_or_else(|| damaged("a number"))?;
        *bytes = rest;
        if index == 8 {
            return Ok((number << 8 | u64::from(*byte)) as i64);
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(number as i64)
}

/// The values of a row: a head with their types, then the values.
fn record(payload: &[u8]) -> Result<Vec<Cell>, String> {
    let mut head = payload;
    let length = usize::try_from(varint(&mut head)?).map_err(|_| damaged("a length"))?;
    let before = payload.len() - head.len();
    let mut body = payload.get(length..).ok_or_else(|| damaged("a row"))?;
    head = head
        .get(..length.saturating_sub(before))
        .ok_or_else(|| damaged("a row"))?;
    let mut cells = Vec::new();
    while !head.is_empty() {
        let kind = varint(&mut head)?;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            12.. => ((kind - 12) / 2) as usize,
            _ => return Err(damaged("the type of a value")),
        };
        if size > body.len() {
            return Err(damaged("a value"));
        }
        let (bytes, rest) = body.split_at(size);
        body = rest;
        cells.push(match kind {
            0 => Cell::Null,
            8 | 9 => Cell::Integer(kind - 8),
            7 => Cell::Real(f64::from_be_bytes(bytes.try_into().expect("eight bytes"))),
            1..=6 => {
                let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
                let start = if negative { -1_i64 } else { 0 };
                Cell::Integer(bytes.iter().fold(start, |number, byte| number << 8 | i64::from(*byte)))
            }
            _ if kind % 2 == 1 => Cell::Text(String::from_utf8_lossy(bytes).into_owned()),
            _ => Cell::Blob,
        });
    }
    Ok(cells)
}

/// The names of the columns of `CREATE TABLE`, and which of them is the number of its row.
fn columns(statement: &str) -> (Vec<String>, Option<usize>) {
    let inside = statement.split_once('(').map_or("", |(_, rest)| rest);
    let inside = inside.rsplit_once(')').map_or(inside, |(rest, _)| rest);
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in inside.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            Some(part) if letter != ',' || depth > 0 => part.push(letter),
            _ => parts.push(String::new()),
        }
    }
    let bare = |word: &str| word.trim_matches(|letter| "\"'`[]".contains(letter)).to_owned();
    let (mut names, mut integers, mut key) = (Vec::new(), Vec::new(), None);
    for part in &parts {
        let words: Vec<&str> = part.split_whitespace().collect();
        let upper = part.to_ascii_uppercase();
        match words[..] {
            [] => {}
            [first, ..]
                if ["UNIQUE", "FOREIGN", "CHECK", "CONSTRAINT", "PRIMARY"]
                    .contains(&first.to_ascii_uppercase().as_str()) =>
            {
                if let Some((_, rest)) = upper.split_once("PRIMARY KEY") {
                    key = key.or(Some(
                        bare(rest.trim().trim_matches(|letter| "()".contains(letter))).to_ascii_lowercase(),
                    ));
                }
            }
            [first, ..] => {
                if words.get(1).is_some_and(|kind| kind.eq_ignore_ascii_case("INTEGER")) {
                    integers.push(names.len());
                    if upper.contains("PRIMARY KEY") {
                        key = Some(bare(first).to_ascii_lowercase());
                    }
                }
                names.push(bare(first));
            }
        }
    }
    let key = key.and_then(|key| names.iter().position(|name| name.eq_ignore_ascii_case(&key)));
    (names, key.filter(|key| integers.contains(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_the_number_of_the_row_are_found_in_the_statement() {
        let names = |statement| columns(statement);
        let expected = vec!["param_id".to_owned(), "key".to_owned(), "price".to_owned()];
        assert_eq!(
            names(
                "CREATE TABLE t (\n\tparam_id INTEGER NOT NULL, \n\t\"key\" VARCHAR(512), price NUMERIC(3, 2), \n\tPRIMARY KEY (param_id), UNIQUE (a, \"key\"), CONSTRAINT b CHECK (price IN (1, 2)))"
            ),
            (expected, Some(0))
        );
        assert_eq!(
            names("CREATE TABLE t(a TEXT, b integer primary key)"),
            (vec!["a".to_owned(), "b".to_owned()], Some(1))
        );
        assert_eq!(
            names("CREATE TABLE t(a TEXT PRIMARY KEY)"),
            (vec!["a".to_owned()], None)
        );
    }

    #[test]
    fn numbers_of_every_length_are_read() {
        let read = |bytes: &[u8]| varint(&mut &*bytes).unwrap();
        assert_eq!(read(&[0x7f]), 127);
        assert_eq!(read(&[0x81, 0x00]), 128);
        assert_eq!(read(&[0xff; 9]), -1);
        assert!(varint(&mut &[0x80][..]).is_err());
        // Head of 4 bytes: an integer of one byte, a double, a text of two bytes.
        let mut row = vec![4, 1, 7, 17, 0xff];
        row.extend(0.5_f64.to_be_bytes());
        row.extend(b"ab");
        assert_eq!(
            record(&row).unwrap(),
            [Cell::Integer(-1), Cell::Real(0.5), Cell::Text("ab".to_owned())]
        );
        assert!(record(&row[..8]).is_err());
    }
}
