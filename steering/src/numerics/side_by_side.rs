//! Work on several processors, with the results of one.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::{Builder, available_parallelism, scope};

/// Most threads for work that is soon done: more are more trouble than help.
const MOST: usize = 8;

/// What `work` makes of each number below `count`, in their order. Where it `pays`, which takes some tenths of a millisecond for each,
/// every number but the first has a thread of its own, if there are processors and threads to be had.
pub(crate) fn side_by_side<T: Send>(count: usize, pays: bool, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if count < 2 || !pays || processors() == 1 {
        return (0..count).map(work).collect();
    }
    let work = &work;
    scope(|scope| {
        let others: Vec<_> = (1..count)
            .map(|number| (number, Builder::new().spawn_scoped(scope, move || work(number)).ok()))
            .collect();
        let mut results = vec![work(0)];
        results.extend(others.into_iter().map(|(number, thread)| match thread {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => work(number),
        }));
        results
    })
}

/// What `work` makes of each number below `count`, in their order, where each takes little time: a thread has at least `least` of
/// them, one after the other.
pub(crate) fn in_runs<T: Send>(count: usize, least: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let runs = (count / least.max(1)).clamp(1, processors().min(MOST));
    if runs == 1 {
        return (0..count).map(work).collect();
    }
    let start = |run: usize| run * count / runs;
    let of_run = |run| (start(run)..start(run + 1)).map(&work).collect::<Vec<T>>();
    let mut results = Vec::with_capacity(count);
    for run in side_by_side(runs, true, of_run) {
        results.extend(run);
    }
    results
}

/// Processors that this process may use.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| available_parallelism().map_or(1, NonZero::get))
}

#[cfg(test)]
mod tests {
    use super::{in_runs, side_by_side};

    #[test]
    fn results_are_in_order_with_threads_and_without() {
        for pays in [false, true] {
            for count in [0, 1, 2, 7] {
                let squares: Vec<usize> = (0..count).map(|number| number * number).collect();
                assert_eq!(side_by_side(count, pays, |number| number * number), squares);
            }
        }
    }

    #[test]
    fn runs_are_put_together_in_order() {
        for (count, least) in [(0, 1), (1, 1), (7, 2), (100, 9), (5, 0), (5, 6)] {
            let expected: Vec<usize> = (0..count).collect();
            assert_eq!(in_runs(count, least, |number| number), expected);
        }
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn a_panic_is_passed_on() {
        side_by_side(4, true, |number| assert!(number != 2, "the third"));
    }
}
