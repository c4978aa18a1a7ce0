//! The systems that have a kernel backend.

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
compile_error!(
    "procref has no kernel backend for this system; it runs on Linux, macOS and Windows"
);
