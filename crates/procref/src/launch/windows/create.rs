//! Creates a suspended process in a job, with only the handles that it needs.
//!
//! The standard library cannot do this. With it, a program can put a process into a job only after the
//! creation. If the starter died between the two calls, the process would stay suspended indefinitely. Also,
//! a child inherits every inheritable handle, such as the pipes of this process, and a reader of such a pipe
//! would wait until the service exits.

#![expect(
    unsafe_code,
    reason = "the standard library has no such way to create a process"
)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::os::windows::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;

use procref_winsys::process::{MYSELF, has_exited};
use procref_winsys::wide;
use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT,
    CreateProcessW, DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT,
    GetExitCodeProcess, InitializeProcThreadAttributeList, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
    PROC_THREAD_ATTRIBUTE_JOB_LIST, PROCESS_INFORMATION, ResumeThread, STARTF_USESTDHANDLES,
    STARTUPINFOEXW, UpdateProcThreadAttribute,
};

/// A process to be created.
pub(crate) struct Program<'a> {
    /// The absolute path.
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [OsString],
    /// The whole environment.
    pub(crate) env: &'a [(OsString, OsString)],
    pub(crate) dir: &'a Path,
    pub(crate) input: &'a File,
    /// Standard output and standard error.
    pub(crate) output: &'a File,
    pub(crate) console: Console,
    pub(crate) job: &'a OwnedHandle,
}

/// The console of a new process, from which it can receive Ctrl-Break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    /// The console of this process.
    Shared,
    /// A new console without a window, which no user can close.
    Own,
}

/// A process that is created suspended.
#[derive(Debug)]
pub(crate) struct Suspended {
    pub(crate) pid: u32,
    pub(crate) process: OwnedHandle,
    thread: OwnedHandle,
}

impl Suspended {
    /// Resumes the process.
    pub(crate) fn resume(&self) -> io::Result<()> {
        // SAFETY: `self` owns the handle, so it is open. `CreateProcessW` returned it with all rights.
        match unsafe { ResumeThread(self.thread.as_raw_handle()) } {
            u32::MAX => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Returns the exit status of the process, or `None` if it is alive.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        if !has_exited(&self.process) {
            return Ok(None);
        }
        let mut code = 0;
        // SAFETY: `self` owns the handle, so it is open. The call writes one integer to `code`, which is a local
        // variable.
        match unsafe { GetExitCodeProcess(self.process.as_raw_handle(), &raw mut code) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Some(ExitStatus::from_raw(code))),
        }
    }
}

/// Creates the process in a job. With `CREATE_BREAKAWAY_FROM_JOB` in `flags`, the new process is not in the
/// job of this process.
pub(crate) fn create(program: &Program<'_>, flags: u32) -> io::Result<Suspended> {
    let path = wide(program.program);
    let mut line = command_line(program.program.as_os_str(), program.args);
    let env = environment(program.env);
    let dir = wide(program.dir);
    let (input, output) = (inheritable(program.input)?, inheritable(program.output)?);
    let handles = [input.as_raw_handle(), output.as_raw_handle()];
    let jobs = [program.job.as_raw_handle()];
    let mut attributes = Attributes::new()?;
    attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &handles)?;
    attributes.set(PROC_THREAD_ATTRIBUTE_JOB_LIST, &jobs)?;
    let mut startup = STARTUPINFOEXW::default();
    startup.StartupInfo.cb = size_of::<STARTUPINFOEXW>() as u32;
    startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    startup.StartupInfo.hStdInput = handles[0];
    startup.StartupInfo.hStdOutput = handles[1];
    startup.StartupInfo.hStdError = handles[1];
    startup.lpAttributeList = attributes.list();
    let console = match program.console {
        Console::Shared => 0,
        Console::Own => CREATE_NO_WINDOW,
    };
    // The process is the first of a process group. So it can receive a Ctrl-Break for its group only, and a
    // Ctrl-C on the console does not reach it.
    let own = CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP | console;
    let form = CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT;
    let mut created = PROCESS_INFORMATION::default();
    // SAFETY: `path`, `line` and `dir` end with a NUL, and `env` ends with two. The call may write to `line`, which is
    // mutable. The attribute list and the arrays that it points to (`handles`, `jobs`) live until the call returns.
    // `cb` and EXTENDED_STARTUPINFO_PRESENT declare the attribute list. The call writes to `created`, a local variable.
    let done = unsafe {
        CreateProcessW(
            path.as_ptr(),
            line.as_mut_ptr(),
            ptr::null(),
            ptr::null(),
            1,
            own | form | flags,
            env.as_ptr().cast(),
            dir.as_ptr(),
            (&raw const startup).cast(),
            &raw mut created,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Suspended {
        pid: created.dwProcessId,
        // SAFETY: the call has opened this handle for this process, and no other value owns it.
        process: unsafe { OwnedHandle::from_raw_handle(created.hProcess) },
        // SAFETY: the call has opened this handle for this process, and no other value owns it.
        thread: unsafe { OwnedHandle::from_raw_handle(created.hThread) },
    })
}

/// Returns an inheritable copy of a handle. While the copy exists, a child that another thread creates also
/// inherits it. This is harmless, because the handle is that of a log or of NUL.
fn inheritable(file: &File) -> io::Result<OwnedHandle> {
    let mut copy = ptr::null_mut();
    // SAFETY: `file` is borrowed, so its handle is open, and MYSELF is always valid. The call writes one handle to
    // `copy`, which is a local variable.
    let done = unsafe {
        DuplicateHandle(
            MYSELF,
            file.as_raw_handle(),
            MYSELF,
            &raw mut copy,
            0,
            1,
            DUPLICATE_SAME_ACCESS,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has opened this handle, and no other value owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(copy) })
}

/// Returns an environment block: each `NAME=VALUE` ends with a NUL, and the block ends with another one.
fn environment(env: &[(OsString, OsString)]) -> Vec<u16> {
    let mut block = Vec::new();
    for (name, value) in env {
        block.extend(name.encode_wide());
        block.push(b'='.into());
        block.extend(value.encode_wide());
        block.push(0);
    }
    if block.is_empty() {
        block.push(0);
    }
    block.push(0);
    block
}

/// Returns the command line, quoted as programs parse it
/// ([the rules](https://learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments)).
fn command_line(program: &OsStr, args: &[OsString]) -> Vec<u16> {
    const QUOTE: u16 = b'"' as u16;
    const BACKSLASH: u16 = b'\\' as u16;
    const SPACES: [u16; 2] = [b' ' as u16, b'\t' as u16];

    // The path of a file has no quotes. In the first word backslashes have no special meaning.
    let mut line = vec![QUOTE];
    line.extend(program.encode_wide());
    line.push(QUOTE);
    for arg in args {
        line.push(SPACES[0]);
        let quoted = arg.is_empty() || arg.encode_wide().any(|unit| SPACES.contains(&unit));
        if quoted {
            line.push(QUOTE);
        }
        let mut backslashes = 0;
        for unit in arg.encode_wide() {
            if unit == QUOTE {
                // Backslashes before a quote are doubled, and one more escapes the quote.
                line.extend(std::iter::repeat_n(BACKSLASH, backslashes + 1));
            }
            backslashes = if unit == BACKSLASH {
                backslashes + 1
            } else {
                0
            };
            line.push(unit);
        }
        if quoted {
            line.extend(std::iter::repeat_n(BACKSLASH, backslashes));
            line.push(QUOTE);
        }
    }
    line.push(0);
    line
}

/// The attribute list of a new process.
struct Attributes {
    room: Vec<usize>,
}

impl Attributes {
    const NUMBER: u32 = 2;

    fn new() -> io::Result<Self> {
        let mut size = 0;
        // SAFETY: the list is null, so the call only writes the size to `size`, which is a local variable.
        unsafe {
            InitializeProcThreadAttributeList(ptr::null_mut(), Self::NUMBER, 0, &raw mut size)
        };
        let mut room = vec![0_usize; size.div_ceil(size_of::<usize>())];
        // SAFETY: `room` has at least `size` bytes, as the first call required, and is aligned for pointers.
        let done = unsafe {
            InitializeProcThreadAttributeList(
                room.as_mut_ptr().cast(),
                Self::NUMBER,
                0,
                &raw mut size,
            )
        };
        match done {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Self { room }),
        }
    }

    fn list(&mut self) -> *mut core::ffi::c_void {
        self.room.as_mut_ptr().cast()
    }

    /// Sets an attribute. `handles` must outlive the creation of the process, because the list only points to them.
    fn set(&mut self, attribute: u32, handles: &[HANDLE]) -> io::Result<()> {
        // SAFETY: `new` has initialized the list with room for NUMBER attributes, and each is set once. The pointer and
        // the length are those of `handles`.
        let done = unsafe {
            UpdateProcThreadAttribute(
                self.list(),
                0,
                attribute as usize,
                handles.as_ptr().cast(),
                size_of_val(handles),
                ptr::null_mut(),
                ptr::null(),
            )
        };
        match done {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `new` has initialized the list, and it is not used after this.
        unsafe { DeleteProcThreadAttributeList(self.list()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_quoted_as_programs_parse_it() {
        let line = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            let line = command_line(OsStr::new(r"C:\a b\c.exe"), &args);
            String::from_utf16(&line[..line.len() - 1]).unwrap()
        };
        assert_eq!(line(&[]), r#""C:\a b\c.exe""#);
        assert_eq!(line(&["x", ""]), r#""C:\a b\c.exe" x """#);
        assert_eq!(line(&["a b\\"]), r#""C:\a b\c.exe" "a b\\""#);
        assert_eq!(line(&[r#"a\\"b"#]), r#""C:\a b\c.exe" a\\\\\"b"#);
        assert_eq!(line(&[r"a\b"]), r#""C:\a b\c.exe" a\b"#);
    }
}
