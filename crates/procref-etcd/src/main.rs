//! The program `procref-etcd`. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    procref_etcd::program::main()
}
