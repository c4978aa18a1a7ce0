//! The service that the clients of a test share.

use std::process::ExitCode;

fn main() -> ExitCode {
    procref_testkit::fake::main(&[], std::env::args().skip(1))
}
