//! Runs the program `procref`, which the library of this package implements.

// The allocator of musl asks the kernel for memory, and returns it, in eighty calls during a start. A release for Linux
// contains musl. dlmalloc needs no C compiler, as other allocators do.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    procref_cli::main()
}
