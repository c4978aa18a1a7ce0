//! Host programs in which a library can easily fail: `procref-host MODE DIRECTORY NAME`.
//!
//! Each mode uses services in that runtime directory, whose names start with NAME, and prints one fact per line. The
//! tests are in `g8_hosts.rs`.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
