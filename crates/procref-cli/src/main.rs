//! `procref`: see the library of this package.

fn main() -> std::process::ExitCode {
    procref_cli::main()
}
