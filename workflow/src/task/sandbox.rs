//! The user's small files, copied once at submission and then into every work directory.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::create::TaskError;

/// Patterns of file names that are always taken: phpo's, and ONNX models.
pub(crate) const PATTERNS: [&str; 5] = ["*.json", "*.py", "*.sh", "*.yaml", "*.onnx"];
/// Most bytes of all files together.
pub(crate) const LARGEST: u64 = 10 << 20;
/// Most directory entries that are looked at.
const MOST_ENTRIES: usize = 100_000;

/// One file of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxFile {
    /// Relative to the directory of the task file, and to the work directory.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Finds the files below `root` that match, by their last component. Task directories are passed over.
pub(crate) fn collect(root: &Path, further: &[String]) -> Result<Vec<SandboxFile>, TaskError> {
    let mut found = Vec::new();
    let mut seen = 0;
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let full = root.join(&directory);
        let entries = fs::read_dir(&full).map_err(|source| TaskError::io("read", &full, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| TaskError::io("read", &full, source))?;
            seen += 1;
            if seen > MOST_ENTRIES {
                return Err(TaskError::SandboxCrowded {
                    root: root.to_owned(),
                    limit: MOST_ENTRIES,
                });
            }
            let relative = directory.join(entry.file_name());
            let kind = entry
                .file_type()
                .map_err(|source| TaskError::io("read", &entry.path(), source))?;
            if kind.is_dir() {
                if !is_task_directory(&entry.path()) {
                    pending.push(relative);
                }
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if !PATTERNS
                .iter()
                .copied()
                .chain(further.iter().map(String::as_str))
                .any(|p| matches(p, &name))
            {
                continue;
            }
            // A link is followed here, once: what it points to is copied.
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if metadata.is_file() {
                found.push(SandboxFile {
                    path: relative,
                    bytes: metadata.len(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let total: u64 = found.iter().map(|file| file.bytes).sum();
    if total > LARGEST {
        let mut largest = found.clone();
        largest.sort_by_key(|file| std::cmp::Reverse(file.bytes));
        let names: Vec<String> = largest
            .iter()
            .take(3)
            .map(|file| format!("`{}` ({} KiB)", file.path.display(), file.bytes / 1024))
            .collect();
        return Err(TaskError::SandboxTooBig {
            root: root.to_owned(),
            total_kib: total / 1024,
            limit_kib: LARGEST / 1024,
            largest: names.join(", "),
        });
    }
    Ok(found)
}

/// Copies the files from `source` to `target`, making directories as needed.
pub(crate) fn copy(source: &Path, target: &Path, files: &[SandboxFile]) -> Result<(), (PathBuf, std::io::Error)> {
    for file in files {
        let to = target.join(&file.path);
        if let Some(parent) = file.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let parent = target.join(parent);
            fs::create_dir_all(&parent).map_err(|error| (parent.clone(), error))?;
        }
        // Shares the blocks with the original where the file system can.
        fs::copy(source.join(&file.path), &to).map_err(|error| (to.clone(), error))?;
    }
    Ok(())
}

/// Whether `directory` was made by `hpo run`.
fn is_task_directory(directory: &Path) -> bool {
    let has = |name: &str| directory.join(name).exists();
    // Without journal, but locked once: its making was cut short.
    has("task.json") && has("journal") || has("lock") && has("epochs")
}

/// Shell patterns with `*` and `?`; a leading dot is matched only by a dot.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    fn at(pattern: &[char], name: &[char]) -> bool {
        // Iterative with one point of return: linear in practice, never exponential.
        let (mut p, mut n) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        while n < name.len() {
            if p < pattern.len() && pattern[p] == '*' {
                back = Some((p, n));
                p += 1;
            } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
                p += 1;
                n += 1;
            } else if let Some((star, from)) = back {
                back = Some((star, from + 1));
                p = star + 1;
                n = from + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|letter| *letter == '*')
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    (name.first() != Some(&'.') || pattern.first() == Some(&'.')) && at(&pattern, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_found_at_any_depth_and_task_directories_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "12").unwrap();
        };
        for path in [
            "run.sh",
            "a/b/c.json",
            "a/data.npy",
            "model.onnx",
            "x.txt",
            "old/journal",
            "old/task.json",
        ] {
            write(path);
        }
        let names = |further: &[String]| -> Vec<String> {
            let files = collect(root.path(), further).unwrap();
            files.iter().map(|file| file.path.display().to_string()).collect()
        };
        assert_eq!(names(&[]), ["a/b/c.json", "model.onnx", "run.sh"]);
        assert_eq!(
            names(&["*.np?".to_owned()]),
            ["a/b/c.json", "a/data.npy", "model.onnx", "run.sh"]
        );
        let target = tempfile::tempdir().unwrap();
        copy(root.path(), target.path(), &collect(root.path(), &[]).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(target.path().join("a/b/c.json")).unwrap(), "12");
    }

    #[test]
    fn too_many_bytes_are_refused_with_the_largest_files() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("small.json"), "1").unwrap();
        let big = fs::File::create(root.path().join("big.json")).unwrap();
        big.set_len(LARGEST).unwrap();
        let message = collect(root.path(), &[]).unwrap_err().to_string();
        let expected = format!(
            "the files to copy into each work directory must be at most 10240 KiB together, found 10240 KiB below `{}`; largest: `big.json` (10240 KiB), `small.json` (0 KiB); move data elsewhere and name it in `trainingDS`",
            root.path().display()
        );
        assert_eq!(message, expected);
    }

    #[test]
    fn patterns_have_stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*.json", "a.json", true),
            ("*.json", ".json", false),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*a*a*a*a*b", &"a".repeat(60), false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
