//! Commands for which no shell is needed.
//!
//! A shell costs as much as a short evaluation. Of a command that consists of nothing but a program and plain words it would do no
//! more than start that program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::supervise::Launch;

/// Commands that are a shell's own, or mean something else to it than to the system.
const OWN: [&str; 50] = [
    ".", ":", "[", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done", "echo", "elif", "else",
    "esac", "eval", "exec", "exit", "export", "false", "fg", "fi", "for", "function", "getopts", "hash", "if", "in",
    "jobs", "kill", "local", "printf", "pwd", "read", "readonly", "return", "set", "shift", "test", "then", "time",
    "trap", "true", "type", "ulimit", "umask", "unset", "wait", "while",
];

/// The command of a launch without a shell; `None` where it takes one.
pub(super) fn command(launch: &Launch) -> Option<Command> {
    let words = words(&launch.command)?;
    let (name, arguments) = words.split_first()?;
    let path = launch.environment.iter().find(|(name, _)| name == "PATH");
    let program = find(name, &launch.work_directory, path.map(|(_, path)| path.as_str())?)?;
    let mut command = Command::new(program);
    command.args(arguments);
    Some(command)
}

/// The words of a command in which every letter stands for itself.
fn words(command: &str) -> Option<Vec<&str>> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || " _./:,@%+=-".contains(letter);
    if !command.chars().all(is_plain) {
        return None;
    }
    let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
    let name = words.first()?;
    // With `=` it would set a variable.
    (!name.contains('=') && !OWN.contains(name)).then_some(words)
}

/// The program as a shell finds it: relative to the work directory if it has a slash, in the directories of `path` if not.
fn find(name: &str, work_directory: &Path, path: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(work_directory.join(name)).filter(is_program);
    }
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_need_no_shell() {
        assert_eq!(
            words("train  --rate 0.1 a=b"),
            Some(vec!["train", "--rate", "0.1", "a=b"])
        );
        for command in [
            "",
            " ",
            "A=1 train",
            "echo hello",
            "exit 7",
            "train; true",
            "train > log",
            "train 'a b'",
            "train $HOME",
            "train ~/x",
            "train *.npy",
            "train \\x",
            "train\nother",
            "train # why",
            "if true",
        ] {
            assert_eq!(words(command), None, "{command}");
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train");
        std::fs::write(&path, "").unwrap();
        let search = format!("relative:/nowhere:{}", directory.path().display());
        let found = |name: &str| find(name, directory.path(), &search);
        assert_eq!(found("train"), None, "it is not executable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found("train"), Some(path.clone()));
        assert_eq!(found("./train"), Some(directory.path().join("./train")));
        assert_eq!(found("other"), None);
    }
}
