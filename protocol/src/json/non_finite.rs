//! Python's tokens for numbers that are not finite.

/// Replaces the non-finite tokens outside strings by marked strings, and numbers that overflow a double by infinities.
/// Nothing to replace: `None`.
pub(super) fn mark(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'N' | b'I' | b'-' | b'0'..=b'9' => {
                let end = at
                    + bytes[at..]
                        .iter()
                        .position(|byte| !is_token(*byte))
                        .unwrap_or(bytes.len() - at);
                let token = &text[at..end];
                if let Some(name) = non_finite_token(token) {
                    out.push_str(&text[copied..at]);
                    out.push_str("\"\\u0001");
                    out.push_str(name);
                    out.push('"');
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    (copied > 0).then(|| {
        out.push_str(&text[copied..]);
        out
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn non_finite_token(token: &str) -> Option<&'static str> {
    match token {
        "NaN" => Some("NaN"),
        "Infinity" => Some("Infinity"),
        "-Infinity" => Some("-Infinity"),
        number if number.contains(['e', 'E']) || number.len() > 300 => {
            let value: f64 = number.parse().ok()?;
            value
                .is_infinite()
                .then_some(if value > 0.0 { "Infinity" } else { "-Infinity" })
        }
        _ => None,
    }
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}
