//! Names the shared library, and keeps it loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number is `ABI_VERSION` in src/lib.rs.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libprocref.so.1");
        // A thread that the library has started, or thread-local data of the caller's threads, may outlive `dlclose`.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
