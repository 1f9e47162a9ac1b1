//! An allocator that counts and remembers its highest count. To implement the trait of allocators is unsafe.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// Bytes that all threads hold now. The highest count begins anew from there.
pub(crate) fn begin() -> usize {
    let bytes = BYTES.load(Relaxed);
    HIGHEST.store(bytes, Relaxed);
    bytes
}

/// The most bytes that were held at a time since the last [`begin`].
pub(crate) fn highest() -> usize {
    HIGHEST.load(Relaxed)
}

fn add(bytes: usize) {
    let now = BYTES.fetch_add(bytes, Relaxed) + bytes;
    if now > HIGHEST.load(Relaxed) {
        HIGHEST.fetch_max(now, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks exist while the content of one is copied to the other.
        add(size);
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}
