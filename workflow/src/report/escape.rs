//! Text of strangers on a terminal.

/// Replaces control characters, so that what a payload wrote cannot steer a terminal.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        // Also the marks that turn the direction of writing around.
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if letter.is_control() || turns {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// The same, with ends of lines and tabs kept.
pub(crate) fn escape_lines(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let parts: Vec<String> = line.trim_end_matches('\r').split('\t').map(escape).collect();
        safe.push_str(&parts.join("\t"));
        safe.push_str(end);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_everything_else_is_kept() {
        assert_eq!(
            escape("a\u{1b}[31mb\r\n\tü\u{202e}"),
            "a\\u{1b}[31mb\\r\\n\\tü\\u{202e}"
        );
    }

    #[test]
    fn ends_of_lines_and_tabs_may_stay() {
        assert_eq!(escape_lines("a\tb\r\n\u{7}c"), "a\tb\n\\u{7}c");
    }
}
