//! jemalloc and its settings: the declared seam for the one unsafe attribute of this binary.
//!
//! What thousands of fleets are is kept in pieces of some dozen bytes, each of which has a header with glibc's allocator. With
//! 2,000 fleets of five nodes the operator takes 224 to 239 MiB at rest with this one, and 272 MiB with glibc's. What a list of
//! ten thousand pods needed for a moment is given back within a second.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc before `main`: a pointer to a C string, under this name.
// SAFETY: the name and type are jemalloc's (`const char *malloc_conf`), and nothing else in the binary defines it but
// jemalloc's own weak default.
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: Option<&'static u8> = Some(&SETTINGS[0]);

/// The runtime has two threads that work.
static SETTINGS: &[u8] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:2\0";
