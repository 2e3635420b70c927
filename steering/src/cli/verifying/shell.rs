//! The words of a plain command line.
//!
//! The manager gives commands to a shell. Those that only need it for splitting words are understood here; anything more, from
//! variables to pipes, is left to a shell.

/// A command without anything that only a shell can do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Assignments before the command.
    pub(super) variables: Vec<(String, String)>,
    /// The command and its arguments.
    pub(super) words: Vec<String>,
}

/// Splits `command`; nothing if it needs a shell.
pub(super) fn split(command: &str) -> Option<Call> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => loop {
                match characters.next()? {
                    '\'' => {
                        word.get_or_insert_default();
                        break;
                    }
                    other => word.get_or_insert_default().push(other),
                }
            },
            '"' => loop {
                match characters.next()? {
                    '"' => {
                        word.get_or_insert_default();
                        break;
                    }
                    '$' | '`' => return None,
                    '\\' => match characters.next()? {
                        escaped @ ('"' | '\\' | '$' | '`') => word.get_or_insert_default().push(escaped),
                        other => word.get_or_insert_default().extend(['\\', other]),
                    },
                    other => word.get_or_insert_default().push(other),
                }
            },
            '\\' => word
                .get_or_insert_default()
                .push(characters.next().filter(|next| *next != '\n')?),
            '$' | '`' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | ']' | '#' | '~'
            | '!' | '\n' => {
                return None;
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    let assignment = |word: &String| {
        word.split_once('=')
            .filter(|(name, _)| is_name(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let variables: Vec<(String, String)> = words.iter().map_while(assignment).collect();
    words.drain(..variables.len());
    Some(Call { variables, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Option<Vec<String>> {
        split(command).map(|call| call.words)
    }

    #[test]
    fn quotes_and_backslashes_keep_words_together() {
        let found = words(r#"steering ask  -n 4 --task 'a b' -o "x \"y\".json" --set a\ b=1 ''"#).unwrap();
        assert_eq!(
            found,
            [
                "steering",
                "ask",
                "-n",
                "4",
                "--task",
                "a b",
                "-o",
                "x \"y\".json",
                "--set",
                "a b=1",
                ""
            ]
        );
    }

    #[test]
    fn assignments_before_the_command_are_its_environment() {
        let call = split("STEERING_SEED=7 HPO_TASK='my task' steering ask --set a=b").unwrap();
        assert_eq!(
            call.variables,
            [
                ("STEERING_SEED".into(), "7".into()),
                ("HPO_TASK".into(), "my task".into())
            ]
        );
        assert_eq!(call.words, ["steering", "ask", "--set", "a=b"]);
    }

    #[test]
    fn whatever_needs_a_shell_is_left_to_one() {
        for command in [
            "a; b",
            "a | b",
            "a $HOME",
            "a \"$HOME\"",
            "a > b",
            "a 'b",
            "a &",
            "a *.json",
            "`a`",
            "a \\",
        ] {
            assert_eq!(split(command), None, "{command}");
        }
    }
}
