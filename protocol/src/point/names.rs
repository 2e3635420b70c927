//! The names in points, which thousands of points have in common.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

/// Distinct names, in the order of the point.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<[Arc<str>]>);

impl Deref for Names {
    type Target = [Arc<str>];

    fn deref(&self) -> &[Arc<str>] {
        &self.0
    }
}

impl Names {
    /// Whether both are the same list in the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn begins_like(&self, other: &[Arc<str>]) -> bool {
        let same = |(left, right): (&Arc<str>, &Arc<str>)| Arc::ptr_eq(left, right) || left == right;
        self.len() >= other.len() && self.iter().zip(other).all(same)
    }
}

/// Lists of names that are kept for sharing: a space with conditions makes points of several kinds.
const RECENT: usize = 16;
/// From this many names on a set finds the repeated one.
const MANY: usize = 32;

thread_local! {
    static KNOWN: RefCell<Vec<Names>> = const { RefCell::new(Vec::new()) };
}

/// Takes the names of a point one after the other, and finds the list of an earlier point that had the same.
#[derive(Debug)]
pub(super) struct NamesBuilder {
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// So many names were those of a known list.
    Following(Names, usize),
    /// No known list begins in this way.
    New(Vec<Arc<str>>, HashSet<Arc<str>>),
}

impl NamesBuilder {
    pub(super) fn new() -> Self {
        let first = KNOWN.with_borrow(|known| known.first().cloned());
        Self {
            progress: Progress::Following(first.unwrap_or_default(), 0),
        }
    }

    /// How many names the point is likely to have.
    pub(super) fn expected(&self) -> usize {
        match &self.progress {
            Progress::Following(names, _) => names.len(),
            Progress::New(names, _) => names.len(),
        }
    }

    /// Takes the next name; says whether it is a new one.
    pub(super) fn push(&mut self, name: &str) -> bool {
        if let Progress::Following(names, length) = &mut self.progress {
            if names.get(*length).is_some_and(|next| **next == *name) {
                *length += 1;
                return true;
            }
            let begun = &names[..*length];
            let other = KNOWN.with_borrow(|known| {
                let fits = |known: &&Names| known.get(begun.len()).is_some_and(|next| **next == *name);
                known
                    .iter()
                    .filter(fits)
                    .find(|known| known.begins_like(begun))
                    .cloned()
            });
            self.progress = match other {
                Some(other) => {
                    *length += 1;
                    Progress::Following(other, *length)
                }
                None => Progress::New(begun.to_vec(), HashSet::new()),
            };
        }
        let Progress::New(names, set) = &mut self.progress else {
            return true;
        };
        if names.len() == MANY {
            set.extend(names.iter().cloned());
        }
        let known = if names.len() < MANY {
            names.iter().any(|known| **known == *name)
        } else {
            set.contains(name)
        };
        if known {
            return false;
        }
        let name: Arc<str> = name.into();
        if names.len() >= MANY {
            set.insert(name.clone());
        }
        names.push(name);
        true
    }

    pub(super) fn finish(self) -> Names {
        let names = match self.progress {
            Progress::Following(names, length) if length == names.len() => return names,
            Progress::Following(names, length) => names[..length].to_vec(),
            Progress::New(names, _) => names,
        };
        KNOWN.with_borrow_mut(|known| {
            if let Some(same) = known
                .iter()
                .find(|known| known.len() == names.len() && known.begins_like(&names))
            {
                return same.clone();
            }
            let new = Names(names.into());
            known.truncate(RECENT - 1);
            known.insert(0, new.clone());
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Names {
        let mut builder = NamesBuilder::new();
        assert!(list.iter().all(|name| builder.push(name)));
        builder.finish()
    }

    #[test]
    fn equal_lists_are_one_list_whatever_came_between() {
        let lists: [&[&str]; 5] = [&["a", "b", "c"], &["a", "b"], &["a", "c"], &[], &["a", "b", "d"]];
        let first = lists.map(names);
        let again = lists.map(names);
        for ((first, again), list) in first.iter().zip(&again).zip(lists) {
            assert!(first.is(again) || list.is_empty());
            assert!(first.iter().map(|name| &**name).eq(list.iter().copied()));
        }
    }

    #[test]
    fn repeated_names_are_noticed_in_short_and_in_long_lists() {
        for length in [1, MANY - 1, MANY, MANY + 1, 3 * MANY] {
            let mut builder = NamesBuilder::new();
            let all: Vec<String> = (0..length).map(|index| format!("long{length}.{index}")).collect();
            assert!(all.iter().all(|name| builder.push(name)));
            assert!(all.iter().all(|name| !builder.push(name)));
            assert_eq!(builder.finish().len(), length);
        }
        let mut builder = NamesBuilder::new();
        assert!(names(&["x", "y"]).len() == 2 && builder.push("x"));
        assert!(!builder.push("x"));
    }
}
