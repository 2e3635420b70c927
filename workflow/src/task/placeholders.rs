//! `%NAME` in command lines, replaced in one pass.
//!
//! A name is the longest run of letters, digits and `_` behind the percent sign, so `%IN` is not found in `%INPUT`, and text
//! that was put in is not looked at again. Values that the shell would take apart are quoted for the place they stand in:
//! outside quotes, in double quotes, or in single quotes.

use std::fmt::Write as _;

use protocol::error::did_you_mean;

/// Names and their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placeholders {
    values: Vec<(&'static str, String)>,
    /// Names with an offset, as in `%RNDM:100`; the value is added to it.
    counters: Vec<(&'static str, u64)>,
}

/// A command line ready for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) command: String,
    /// Names that look like placeholders and are none.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

impl Placeholders {
    /// Those of steering.
    pub(crate) fn steering(max_points: u32, num_points: u32, input: &str, output: &str) -> Placeholders {
        let values = vec![
            ("MAX_POINTS", max_points.to_string()),
            ("NUM_POINTS", num_points.to_string()),
            ("IN", input.to_owned()),
            ("OUT", output.to_owned()),
        ];
        Placeholders {
            values,
            counters: Vec::new(),
        }
    }

    /// Those of an evaluation; `serial` is the number of its job.
    pub(crate) fn evaluation(segment: Option<&str>, training: Option<&[String]>, serial: u32) -> Placeholders {
        let mut values = vec![
            ("MAXEVENTS", "1".to_owned()),
            ("SKIPEVENTS", serial.saturating_sub(1).to_string()),
        ];
        if let Some(segment) = segment {
            values.push(("SEGMENT_NAME", segment.to_owned()));
        }
        if let Some(training) = training {
            values.push(("IN_DATA", training.join(",")));
        }
        let counters = vec![
            ("RNDM", u64::from(serial)),
            ("FIRSTEVENT", u64::from(serial.saturating_sub(1))),
        ];
        Placeholders { values, counters }
    }

    /// Replaces the placeholders of `template`.
    pub(crate) fn expand(&self, template: &str) -> Expanded {
        let mut expanded = Expanded {
            command: String::with_capacity(template.len() + 32),
            warnings: Vec::new(),
        };
        let mut quotes = Quotes::None;
        let mut escaped = false;
        let mut rest = template;
        while let Some(letter) = rest.chars().next() {
            let behind = &rest[letter.len_utf8()..];
            if letter == '%'
                && let Some((value, length)) = self.at(behind, &mut expanded.warnings)
            {
                // A backslash before the sign would swallow the first letter of a quoted value.
                push_quoted(&mut expanded.command, &value, quotes);
                escaped = false;
                rest = &behind[length..];
                continue;
            }
            quotes = match (letter, quotes) {
                _ if escaped => quotes,
                ('\'', Quotes::None) => Quotes::Single,
                ('"', Quotes::None) => Quotes::Double,
                ('\'', Quotes::Single) | ('"', Quotes::Double) => Quotes::None,
                _ => quotes,
            };
            escaped = letter == '\\' && !escaped && quotes != Quotes::Single;
            expanded.command.push(letter);
            rest = behind;
        }
        expanded
    }

    /// The value of the name at the start of `text`, and how many bytes it takes.
    fn at(&self, text: &str, warnings: &mut Vec<String>) -> Option<(String, usize)> {
        let length = text
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            .count();
        let name = &text[..length];
        if let Some((_, value)) = self.values.iter().find(|(known, _)| *known == name) {
            return Some((value.clone(), length));
        }
        if let Some((_, count)) = self.counters.iter().find(|(known, _)| *known == name) {
            let digits = text[length..].strip_prefix([':', '=']).unwrap_or_default();
            let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
            if let Ok(offset) = digits.parse::<u64>() {
                return Some((offset.saturating_add(*count).to_string(), length + 1 + digits.len()));
            }
        }
        // `%d` or `%Y` belong to printf and date; words in capitals are meant for us.
        let is_word = length >= 2
            && name
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if is_word && !name.bytes().all(|b| b.is_ascii_digit()) {
            let known = self
                .values
                .iter()
                .map(|(name, _)| *name)
                .chain(self.counters.iter().map(|(name, _)| *name));
            let hint = did_you_mean(name, known)
                .replace('`', "")
                .replace("did you mean ", "did you mean %");
            let mut warning = format!("unknown placeholder `%{name}` is left as it is");
            let _ = write!(warning, "{hint}");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        None
    }
}

fn push_quoted(command: &mut String, value: &str, quotes: Quotes) {
    let plain = !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-./,:=@+".contains(&b));
    match quotes {
        _ if plain => command.push_str(value),
        Quotes::None => {
            command.push('\'');
            command.push_str(&value.replace('\'', r"'\''"));
            command.push('\'');
        }
        Quotes::Single => command.push_str(&value.replace('\'', r"'\''")),
        Quotes::Double => {
            for letter in value.chars() {
                if matches!(letter, '\\' | '"' | '$' | '`') {
                    command.push('\\');
                }
                command.push(letter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steering() -> Placeholders {
        Placeholders::steering(40, 4, "in.json", "out.json")
    }

    #[test]
    fn names_are_whole_tokens_and_replaced_once() {
        let expanded = steering().expand("s -n %NUM_POINTS --max=%MAX_POINTS $PWD/%IN -o \"%OUT\" %INPUT %%IN %in 50%");
        assert_eq!(
            expanded.command,
            "s -n 4 --max=40 $PWD/in.json -o \"out.json\" %INPUT %in.json %in 50%"
        );
        assert_eq!(expanded.warnings, ["unknown placeholder `%INPUT` is left as it is"]);
    }

    #[test]
    fn an_unknown_placeholder_is_warned_of_once_with_the_nearest_name() {
        let expanded = steering().expand("s %NUM_POINT %NUM_POINT; date +%Y %d %10");
        assert_eq!(expanded.command, "s %NUM_POINT %NUM_POINT; date +%Y %d %10");
        assert_eq!(
            expanded.warnings,
            ["unknown placeholder `%NUM_POINT` is left as it is; did you mean %NUM_POINTS?"]
        );
    }

    #[test]
    fn evaluations_have_segment_data_and_counters() {
        let files = ["a b.npz".to_owned(), "c.npz".to_owned()];
        let placeholders = Placeholders::evaluation(Some("arm"), Some(&files), 7);
        let expanded = placeholders.expand("e %SEGMENT_NAME --data=%IN_DATA --seed %RNDM:100 %RNDM=0 %RNDM");
        assert_eq!(expanded.command, "e arm --data='a b.npz,c.npz' --seed 107 7 %RNDM");
        assert_eq!(
            Placeholders::evaluation(None, None, 1).expand("e %IN_DATA").command,
            "e %IN_DATA"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A shell that prints its arguments, one a line, sees exactly the value, wherever the placeholder stands.
        #[test]
        fn the_shell_sees_the_value_as_one_argument(value in "[^\0\n]{0,40}") {
            let placeholders = Placeholders { values: vec![("IN", value.clone())], counters: Vec::new() };
            let expanded = placeholders.expand(r#"printf '%s\n' %IN a%IN "b %IN" 'c %IN' \"%IN"#);
            let output = std::process::Command::new("sh").arg("-c").arg(&expanded.command).output().unwrap();
            let expected = format!("{value}\na{value}\nb {value}\nc {value}\n\"{value}\n");
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    }
}
