//! The `coordinator` executable; everything is in [`coordinator::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    coordinator::cli::main()
}
