//! Host programs that make it hard for a library. `procref-host MODE DIRECTORY NAME`: each mode uses services in that
//! runtime directory whose names begin so, and prints one fact a line. The tests are in `g8_hosts.rs`.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
