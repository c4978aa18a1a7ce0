//! The systems that have a kernel backend.

#[cfg(not(any(target_os = "linux", windows)))]
compile_error!("procref has no kernel backend for this system; it runs on Linux and Windows");
