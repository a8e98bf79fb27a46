//! The command line `backpropamine`.

use std::process::ExitCode;

/// Training allocates and frees megabytes in every iteration; the system's allocator would hand them back to the kernel
/// each time, which costs a quarter of the run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    backpropamine_train::cli::main()
}
