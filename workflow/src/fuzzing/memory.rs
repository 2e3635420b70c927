//! Counts what a thread has allocated at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes beyond which an allocation fails, and with it the process: before the machine runs out of memory.
const TOO_MUCH: isize = 1 << 30;

thread_local! {
    /// Bytes that are allocated now, and that were at most; what another thread frees may make the first negative.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counts, and says whether it is not too much.
fn count(change: isize) -> bool {
    // While a thread ends its counters are gone.
    let counted = NOW.try_with(|now| {
        now.set(now.get() + change);
        MOST.with(|most| most.set(most.get().max(now.get())));
        now.get()
    });
    counted.is_ok_and(|now| now < TOO_MUCH) || change < 0 || counted.is_err()
}

#[expect(
    unsafe_code,
    reason = "only an allocator sees allocations; it hands every call on as it came"
)]
// SAFETY: all calls go to the system's allocator unchanged or fail as it may, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !count(size as isize - layout.size() as isize) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes that `work` had allocated at most beyond what was allocated before.
pub(super) fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    MOST.set(before);
    work();
    usize::try_from(MOST.get() - before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_again_counts() {
        let peak = peak_of(|| drop(std::hint::black_box(vec![0_u8; 1 << 20])));
        assert!((1 << 20..1 << 21).contains(&peak), "{peak}");
        assert!(peak_of(|| ()) < 1 << 10);
    }
}
