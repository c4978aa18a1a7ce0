//! Sixteen processes share one PostgreSQL. The first process starts the database. All of them write and read
//! rows, and one is killed with SIGKILL in the middle of a transaction. The last process stops the database.
//!
//! ```sh
//! cargo run --example postgres              # callbacks start and stop the database
//! cargo run --example postgres -- command   # procref executes the database
//! ```
//!
//! With callbacks, the last client stops the database and waits until it has exited. With `command`, procref's supervisor
//! is the database's parent and stops it.
//!
//! The example needs PostgreSQL's programs (on Debian, `apt-get install postgresql`), but no running
//! database: it creates all files in a temporary directory. PostgreSQL refuses to run as root, so if root
//! runs the example, it runs as another user (`other_user.rs`).
//!
//! On Windows this example only says that it needs Unix. `unix.rs` shows how a program uses procref.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(windows)]
fn main() -> Result<(), &'static str> {
    Err("this example needs Unix: it sends signals, and runs PostgreSQL as another user")
}
