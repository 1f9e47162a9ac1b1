//! An allocator that counts. To implement the trait of allocators is unsafe.
#![allow(unsafe_code)]
#![allow(dead_code, reason = "each test uses one of the counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HERE: Cell<(isize, usize)> = const { Cell::new((0, 0)) };
}

/// Bytes that all threads asked for and did not give back.
pub(crate) fn allocated() -> usize {
    BYTES.load(Relaxed)
}

/// The same for this thread, which leaves out the test harness's own threads, and how often it asked. Below zero when
/// it gave back more than it asked for, because it got memory from other threads.
pub(crate) fn allocated_here() -> (isize, usize) {
    HERE.get()
}

fn count(more: usize, less: usize) {
    BYTES.fetch_add(more, Relaxed);
    BYTES.fetch_sub(less, Relaxed);
    // A thread that ends may free after its locals are gone.
    let _ended = HERE.try_with(|here| {
        let (bytes, calls) = here.get();
        here.set((bytes + more.cast_signed() - less.cast_signed(), calls + usize::from(more > 0)));
    });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}
