//! jemalloc in the place of glibc's allocator.
//!
//! What thousands of fleets are is kept in pieces of some dozen bytes, each of which has a header with glibc's. With 2,000 fleets of
//! five nodes the operator takes 224 to 239 MiB at rest with this one, and 272 MiB with glibc's (docs/BENCHMARKS.md).

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
