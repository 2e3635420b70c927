//! What is sound in a damaged journal.

use super::header;
use super::record::Record;

/// What a damaged journal still says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// Every sound record once, by rising sequence number.
    pub(crate) records: Vec<Record>,
    /// What was passed over, in the order of the file.
    pub(crate) dropped: Vec<Dropped>,
    /// Sequence numbers, from and to, of which there is no sound record.
    pub(crate) missing: Vec<(u64, u64)>,
}

/// A stretch of the file that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Where it begins, in bytes from the start of the file.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) reason: String,
}

/// Takes every record whose checksum holds, wherever it stands.
///
/// Where two records have one sequence number, that of the later manager counts, as it does in an undamaged journal.
pub(crate) fn salvage(bytes: &[u8]) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let mut found: Vec<(usize, usize, Record)> = Vec::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n");
        match text.and_then(Record::decode) {
            Some(record) => found.push((offset, line.len(), record)),
            None if offset == 0 && line == header().as_bytes() => {}
            None => {
                let reason = match text {
                    None => "the torn end of the file",
                    Some(_) if offset == 0 => "the first line is not that of a journal",
                    Some(_) => "its checksum fails",
                };
                salvaged.drop(offset, line.len(), reason.to_owned());
            }
        }
        offset += line.len();
    }
    // Of equal ones the first in the file comes first.
    found.sort_by_key(|(_, _, record)| (record.sequence, std::cmp::Reverse(record.epoch)));
    let mut expected = 1;
    for (offset, bytes, record) in found {
        let number = record.sequence;
        if let Some(kept) = salvaged.records.last().filter(|last| last.sequence == number) {
            let reason = if *kept == record {
                format!("record {number} stands in the file twice")
            } else {
                format!("record {number} is of an hpo that had been overtaken")
            };
            salvaged.drop(offset, bytes, reason);
            continue;
        }
        if number > expected {
            salvaged.missing.push((expected, number - 1));
        }
        expected = number.saturating_add(1);
        salvaged.records.push(record);
    }
    salvaged.dropped.sort_by_key(|dropped| dropped.offset);
    salvaged
}

impl Salvaged {
    fn drop(&mut self, offset: usize, bytes: usize, reason: String) {
        self.dropped.push(Dropped { offset, bytes, reason });
    }
}

/// A journal of these texts, written in epoch `epoch`.
pub(crate) fn written_anew(texts: &[String], epoch: u64) -> Vec<u8> {
    let mut bytes = header().into_bytes();
    for (json, sequence) in texts.iter().zip(1..) {
        let record = Record {
            epoch,
            // What is whole when it appears cannot be torn.
            continues: false,
            sequence,
            json: json.clone(),
        };
        record.encode(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(records: &[(u64, u64)]) -> Vec<Vec<u8>> {
        let line = |(epoch, sequence): &(u64, u64)| {
            let mut bytes = Vec::new();
            let json = format!("\"{epoch}/{sequence}\"");
            let (epoch, sequence) = (*epoch, *sequence);
            let continues = false;
            let record = Record {
                epoch,
                continues,
                sequence,
                json,
            };
            record.encode(&mut bytes);
            bytes
        };
        std::iter::once(header().into_bytes())
            .chain(records.iter().map(line))
            .collect()
    }

    fn kept(bytes: &[u8]) -> (Vec<String>, Vec<String>, Vec<(u64, u64)>) {
        let salvaged = salvage(bytes);
        let records = salvaged.records.into_iter().map(|record| record.json).collect();
        let reasons = salvaged.dropped.into_iter().map(|dropped| dropped.reason).collect();
        (records, reasons, salvaged.missing)
    }

    #[test]
    fn a_sound_journal_is_kept_whole() {
        let (records, reasons, missing) = kept(&lines(&[(1, 1), (1, 2), (2, 3)]).concat());
        assert_eq!(records, ["\"1/1\"", "\"1/2\"", "\"2/3\""]);
        assert!(reasons.is_empty() && missing.is_empty());
    }

    #[test]
    fn of_damaged_swapped_and_doubled_records_the_sound_ones_are_kept_in_order() {
        let mut all = lines(&[(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
        all[2][12] ^= 1;
        all.swap(4, 5);
        let twice = all[1].clone();
        all.push(twice);
        all.push(b"00000000 torn".to_vec());
        let (records, reasons, missing) = kept(&all.concat());
        assert_eq!(records, ["\"1/1\"", "\"1/3\"", "\"1/4\"", "\"1/5\""]);
        let expected = [
            "its checksum fails",
            "record 1 stands in the file twice",
            "the torn end of the file",
        ];
        assert_eq!(reasons, expected);
        assert_eq!(missing, [(2, 2)]);
    }

    #[test]
    fn the_later_manager_counts_and_a_bad_first_line_is_replaced() {
        let mut all = lines(&[(1, 1), (2, 2), (1, 2)]);
        all[0][3] ^= 1;
        let (records, reasons, _) = kept(&all.concat());
        assert_eq!(records, ["\"1/1\"", "\"2/2\""]);
        let expected = [
            "the first line is not that of a journal",
            "record 2 is of an hpo that had been overtaken",
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn no_flip_of_a_bit_loses_more_than_its_own_line_or_brings_a_false_record() {
        let bytes = lines(&[(1, 1), (1, 2), (1, 3), (1, 4)]).concat();
        let whole = salvage(&bytes).records;
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = salvage(&flipped).records;
            assert!(found.iter().all(|record| whole.contains(record)), "bit {bit}");
            // A newline that is gone or new touches two lines.
            assert!(found.len() + 2 >= whole.len(), "bit {bit}");
        }
    }
}
