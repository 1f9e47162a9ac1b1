//! jemalloc and its settings: the declared seam for the one unsafe attribute of this binary.
//!
//! With these settings 50,000 closed connections leave 20 MB behind after half a second, with the allocator's defaults
//! or glibc's 84 to 105 MB: an autoscaler that reads memory would see connections that are long gone.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc before `main`: a pointer to a C string, under this name.
// SAFETY: the name and type are jemalloc's (`const char *malloc_conf`), and nothing else in the binary defines it but
// jemalloc's own weak default.
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: Option<&'static u8> = Some(&SETTINGS[0]);

static SETTINGS: &[u8] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
