//! Work on several processors, with the results of one.

use std::sync::OnceLock;
use std::thread::{Builder, available_parallelism, scope};

/// What `work` makes of each number below `count`, in their order. Where it `pays`, which takes some tenths of a millisecond for each,
/// every number but the first has a thread of its own, if there are processors and threads to be had.
pub(crate) fn side_by_side<T: Send>(count: usize, pays: bool, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if count < 2 || !pays || !has_several_processors() {
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

fn has_several_processors() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| available_parallelism().is_ok_and(|processors| processors.get() > 1))
}

#[cfg(test)]
mod tests {
    use super::side_by_side;

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
    #[should_panic(expected = "the third")]
    fn a_panic_is_passed_on() {
        side_by_side(4, true, |number| assert!(number != 2, "the third"));
    }
}
