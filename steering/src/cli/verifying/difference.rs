//! Where two texts part.

/// Bytes shown before and after the place.
const AROUND: usize = 24;

/// The first byte in which a recorded answer and its replay differ.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Its number, from 0.
    pub(super) byte: usize,
    /// What is around it in the record.
    pub(super) recorded: String,
    /// What is around it in the replay.
    pub(super) replayed: String,
}

impl Difference {
    /// Nothing if there is no difference.
    pub(super) fn first(recorded: &[u8], replayed: &[u8]) -> Option<Self> {
        if recorded == replayed {
            return None;
        }
        let common = recorded.iter().zip(replayed).take_while(|(a, b)| a == b).count();
        Some(Self {
            byte: common,
            recorded: around(recorded, common),
            replayed: around(replayed, common),
        })
    }
}

fn around(text: &[u8], byte: usize) -> String {
    let (start, end) = (byte.saturating_sub(AROUND), (byte + AROUND).min(text.len()));
    let shown = String::from_utf8_lossy(&text[start..end]);
    let before = if start > 0 { "…" } else { "" };
    let after = if end < text.len() { "…" } else { " (end)" };
    format!("{before}{}{after}", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_byte_is_found_also_at_the_end() {
        assert_eq!(Difference::first(b"[1]\n", b"[1]\n"), None);
        let difference = Difference::first(b"[{\"x\":0.1}]\n", b"[{\"x\":0.2}]\n").unwrap();
        assert_eq!(difference.byte, 8);
        assert_eq!(difference.recorded, r#"[{\"x\":0.1}]\n (end)"#);
        let shorter = Difference::first(b"[]", b"[]\n").unwrap();
        assert_eq!((shorter.byte, shorter.recorded.as_str()), (2, "[] (end)"));
    }
}
