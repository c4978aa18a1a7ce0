//! Pid 1 of a test's PID namespace. There are none elsewhere.

#[cfg(target_os = "linux")]
mod linux;

fn main() -> std::io::Result<std::process::ExitCode> {
    #[cfg(target_os = "linux")]
    return linux::main();
    #[cfg(not(target_os = "linux"))]
    Err(std::io::ErrorKind::Unsupported.into())
}
