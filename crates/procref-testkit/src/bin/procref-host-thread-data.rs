//! A host program with one thread-local variable of 16 MiB and an array of a thousand small ones.

#[cfg(target_os = "linux")]
#[path = "procref-host/linux.rs"]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::cell::Cell;

    const BIG: usize = 16 << 20;

    thread_local! {
        static LARGE: [Cell<u8>; BIG] = const { [const { Cell::new(0) }; BIG] };
        static SMALL: [Cell<usize>; 1000] = const { [const { Cell::new(7) }; 1000] };
    }

    LARGE.with(|large| large[BIG / 2].set(1));
    SMALL.with(|small| small[500].set(1));
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
