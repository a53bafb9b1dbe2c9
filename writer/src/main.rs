//! The writer of one link: applies transactions to the target exactly once.

/// Rows are many small allocations, made by one thread and freed by another; the allocator of the
/// static C library takes one lock for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    writer::main().await
}
