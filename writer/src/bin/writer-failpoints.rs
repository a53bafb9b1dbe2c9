//! The writer that can be told to crash between two steps, for tests.

/// Rows are many small allocations, made by one thread and freed by another; the allocator of the
/// static C library takes one lock for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    writer::main().await
}
