//! Pid 1 of a test's PID namespace. Only Linux has PID namespaces.

#[cfg(target_os = "linux")]
mod linux;

fn main() -> std::io::Result<std::process::ExitCode> {
    #[cfg(target_os = "linux")]
    return linux::main();
    #[cfg(not(target_os = "linux"))]
    Err(std::io::ErrorKind::Unsupported.into())
}
