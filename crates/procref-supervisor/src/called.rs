//! The functions of other libraries that the code after the fork calls.

/// Returns the addresses of these functions, as the loader has resolved them.
///
/// The compiler adds calls of `memcpy` and its like. The test below searches this crate for calls that are missing
/// here.
pub fn functions() -> [usize; 32] {
    macro_rules! addresses {
        ($($name:ident)*) => { [$(libc::$name as *const () as usize,)*] };
    }
    addresses!(
        __errno_location _exit clock_gettime close dup2 dup3 execve fcntl getppid getrlimit inotify_add_watch
        inotify_init1 kill memcmp memcpy memmove memset open poll prctl pthread_sigmask read semctl sigaction
        sigaddset sigemptyset sigfillset sigtimedwait strlen syscall waitpid write
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::string::{String, ToString as _};
    use std::vec::Vec;
    use std::{fs, vec};

    /// Returns the names of all functions of the `libc` crate that the sources of this crate call.
    fn called() -> BTreeSet<String> {
        let mut called = BTreeSet::new();
        let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path())
            {
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                // These files are not compiled for Linux.
                if path.ends_with("macos.rs") || path.ends_with("kqueue.rs") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                for call in text.split("libc::").skip(1) {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let end = call.find(|c| !is_name(c)).unwrap();
                    if call[end..].starts_with('(') {
                        called.insert(call[..end].to_string());
                    }
                }
            }
        }
        called
    }

    #[test]
    fn functions_contain_every_function_that_is_called() {
        let source = include_str!("called.rs");
        let list = source.split("addresses!(").nth(1).unwrap();
        let listed: Vec<&str> = list.split(')').next().unwrap().split_whitespace().collect();
        // These are macros and functions of the `libc` crate itself.
        let own = [
            "SIGRTMIN",
            "WEXITSTATUS",
            "WIFEXITED",
            "WIFSIGNALED",
            "WTERMSIG",
        ];
        for name in called() {
            let known = listed.contains(&&*name) || own.contains(&&*name);
            assert!(known, "{name} is missing");
        }
    }
}
