//! Training data: files, directories, patterns and URLs become a list of files, once, at submission.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::create::TaskError;
use super::sandbox::matches;

/// Lists the files that `list` names: a comma list of files, directories, patterns and URLs, relative to `base`.
///
/// The answer has absolute paths and URLs, in the order of the list; the files of a directory or pattern are sorted.
pub(crate) fn resolve(what: &str, list: &str, base: &Path) -> Result<Vec<String>, TaskError> {
    let mut files = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        if is_url(item) {
            files.push(item.to_owned());
            continue;
        }
        let path = base.join(item);
        let found = if path.is_dir() {
            below(&path, "*")
        } else if path.exists() {
            vec![path.clone()]
        } else if item.contains(['*', '?']) {
            expand(base, item)
        } else {
            return Err(TaskError::NoTrainingFile {
                what: what.to_owned(),
                item: item.to_owned(),
                path,
            });
        };
        if found.is_empty() {
            return Err(TaskError::NoTrainingFile {
                what: what.to_owned(),
                item: item.to_owned(),
                path,
            });
        }
        for file in found {
            let text = file.to_str().ok_or_else(|| TaskError::NotUtf8 { path: file.clone() })?;
            files.push(text.to_owned());
        }
    }
    if files.is_empty() {
        let path = base.to_owned();
        return Err(TaskError::NoTrainingFile {
            what: what.to_owned(),
            item: list.to_owned(),
            path,
        });
    }
    distinct(what, &files)?;
    Ok(files)
}

/// A share of the files, at least one, in their order. Which ones depends on their names and `seed` alone, and larger shares contain
/// smaller ones.
pub(crate) fn share_of(files: &[String], share: f64, seed: u64) -> Vec<String> {
    let key = |file: &String| Sha256::digest(format!("{seed} {}", name_of(file)));
    let mut order: Vec<(usize, &String)> = files.iter().enumerate().collect();
    order.sort_by_cached_key(|(_, file)| key(file).to_vec());
    // The share has passed through decimal text: a hair above a whole number is that number.
    let count = ((files.len() as f64 * share - 1e-9).ceil() as usize).clamp(1, files.len().max(1));
    order.truncate(count);
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, file)| file.clone()).collect()
}

/// The name under which a payload finds a training file: its last component, or the URL.
pub(crate) fn name_of(file: &str) -> &str {
    if is_url(file) {
        file
    } else {
        file.rsplit('/').next().unwrap_or(file)
    }
}

pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Two files of one name cannot both be linked into a work directory.
pub(crate) fn distinct(what: &str, files: &[String]) -> Result<(), TaskError> {
    let mut seen = std::collections::HashMap::new();
    for file in files {
        if let Some(other) = seen.insert(name_of(file), file)
            && other != file
        {
            let (first, second) = (other.clone(), file.clone());
            return Err(TaskError::SameName {
                what: what.to_owned(),
                first,
                second,
            });
        }
    }
    Ok(())
}

/// Regular files right below `directory` whose names match.
fn below(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| matches(pattern, &entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Patterns may stand in any component.
fn expand(base: &Path, item: &str) -> Vec<PathBuf> {
    let mut bases = vec![if item.starts_with('/') {
        PathBuf::from("/")
    } else {
        base.to_owned()
    }];
    let parts: Vec<&str> = item.split('/').filter(|part| !part.is_empty()).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for base in bases {
            if !part.contains(['*', '?']) {
                next.push(base.join(part));
            } else if last {
                next.extend(below(&base, part));
            } else if let Ok(entries) = fs::read_dir(&base) {
                let mut folders: Vec<PathBuf> = entries
                    .flatten()
                    .filter(|entry| matches(part, &entry.file_name().to_string_lossy()))
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir())
                    .collect();
                folders.sort();
                next.extend(folders);
            }
        }
        bases = next;
    }
    bases.retain(|path| path.is_file());
    bases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_shares_of_the_files_contain_smaller_ones() {
        let files: Vec<String> = (0..20).map(|number| format!("/data/part-{number:02}.csv")).collect();
        let mut before = Vec::new();
        for (share, count) in [(0.001, 1), (0.1, 2), (0.15, 3), (0.5, 10), (1.0, 20)] {
            let taken = share_of(&files, share, 7);
            assert_eq!(taken.len(), count);
            assert!(before.iter().all(|file| taken.contains(file)) && taken.is_sorted());
            before = taken;
        }
        assert_ne!(share_of(&files, 0.5, 7), share_of(&files, 0.5, 8));
    }

    #[test]
    fn files_directories_patterns_and_urls_are_listed_in_order() {
        let base = tempfile::tempdir().unwrap();
        for path in ["d/b.npz", "d/a.npz", "d/.hidden", "e1/x.csv", "e2/y.csv", "z.csv"] {
            let path = base.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = resolve("trainingDS", "z.csv, d, e*/?.csv,https://h/f.npz", base.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|file| name_of(file)).collect();
        assert_eq!(names, ["z.csv", "a.npz", "b.npz", "x.csv", "y.csv", "https://h/f.npz"]);
        for missing in ["none.csv", "none*.csv", "", "e1,none"] {
            resolve("trainingDS", missing, base.path()).unwrap_err();
        }
        let message = resolve("trainingDS", "q.csv", base.path()).unwrap_err().to_string();
        let path = base.path().join("q.csv");
        assert_eq!(
            message,
            format!(
                "trainingDS: `q.csv` names no file, looked for `{}`; paths are relative to the file that names them",
                path.display()
            )
        );
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let message = distinct("trainingDS", &["/a/x".to_owned(), "/b/x".to_owned()])
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "trainingDS: `/a/x` and `/b/x` would have the same name in a work directory; rename one"
        );
    }
}
