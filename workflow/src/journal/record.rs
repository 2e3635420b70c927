//! One record of the journal: `<crc32c hex> <length> <epoch> <sequence> <json>` and a newline.
//!
//! Behind the epoch of a record that was committed together with the one before it stands a `+`, so that a reader can tell the
//! commit that a power cut has torn from damage to what was acknowledged.
//!
//! The checksum covers everything behind the first blank up to the newline; `length` is that of the JSON in bytes.
//! JSON text has no raw newline, so a line is a record.

/// Largest JSON text of one record, in bytes.
pub(crate) const LARGEST_RECORD: usize = 1024 * 1024;

/// A record as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Number of the manager's start that wrote it.
    pub(crate) epoch: u64,
    /// Whether it was committed together with the record before it.
    pub(crate) continues: bool,
    /// Position in the journal, from 1, without gaps.
    pub(crate) sequence: u64,
    pub(crate) json: String,
}

impl Record {
    /// Appends the line of this record to `line`.
    pub(crate) fn encode(&self, line: &mut Vec<u8>) {
        encode(self.epoch, self.continues, self.sequence, &self.json, line);
    }

    /// Reads a line without its newline; `None` if anything about it is wrong.
    pub(crate) fn decode(line: &[u8]) -> Option<Record> {
        let text = std::str::from_utf8(line).ok()?;
        let (sum, body) = text.split_once(' ')?;
        if sum.len() != 8 || u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut fields = body.splitn(4, ' ');
        let length: usize = fields.next()?.parse().ok()?;
        let epoch = fields.next()?;
        let continues = epoch.ends_with('+');
        let epoch = epoch.strip_suffix('+').unwrap_or(epoch).parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let json = fields.next()?;
        (json.len() == length).then(|| Record {
            epoch,
            continues,
            sequence,
            json: json.to_owned(),
        })
    }
}

/// Appends the line of a record to `line`.
pub(super) fn encode(epoch: u64, continues: bool, sequence: u64, json: &str, line: &mut Vec<u8>) {
    let together = if continues { "+" } else { "" };
    let body = format!("{} {epoch}{together} {sequence} {json}", json.len());
    let sum = crc32c::crc32c(body.as_bytes());
    line.extend_from_slice(format!("{sum:08x} {body}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_record_reads_back(epoch: u64, continues: bool, sequence: u64, text in "[^\n]{0,80}") {
            let record = Record { epoch, continues, sequence, json: text };
            let mut line = Vec::new();
            record.encode(&mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(Record::decode(&line), Some(record));
        }

        #[test]
        fn every_single_bit_flip_is_noticed(bit in 0_usize..800, text in "[a-z]{80}") {
            let record = Record { epoch: 3, continues: true, sequence: 14, json: format!("\"{text}\"") };
            let mut line = Vec::new();
            record.encode(&mut line);
            line.pop();
            let bit = bit % (line.len() * 8);
            line[bit / 8] ^= 1 << (bit % 8);
            // Upper case of a hexadecimal letter is the same number; every other change must be refused.
            let same_sum = line[..8].eq_ignore_ascii_case(&{
                let mut original = Vec::new();
                record.encode(&mut original);
                original
            }[..8]);
            if bit / 8 >= 8 || !same_sum {
                prop_assert_eq!(Record::decode(&line), None);
            }
        }
    }
}
