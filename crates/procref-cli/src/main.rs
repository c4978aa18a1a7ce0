//! Runs the program `procref`, which the library of this package implements.

fn main() -> std::process::ExitCode {
    procref_cli::main()
}
