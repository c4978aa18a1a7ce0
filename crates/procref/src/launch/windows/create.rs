//! Creating a process in a job, suspended, with no handle but those it is to have.
//!
//! The standard library can do neither. It puts a process into a job only after it was created, and who dies
//! in between leaves it behind, suspended for ever; and it lets a child have every handle that can be
//! inherited, such as the pipes that this process itself was started with: whoever reads them would wait for
//! the service's end.

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

/// What is to be created.
pub(crate) struct Program<'a> {
    /// Its absolute path.
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [OsString],
    /// All of its environment.
    pub(crate) env: &'a [(OsString, OsString)],
    pub(crate) dir: &'a Path,
    pub(crate) input: &'a File,
    /// Errors go there, too.
    pub(crate) output: &'a File,
    pub(crate) console: Console,
    pub(crate) job: &'a OwnedHandle,
}

/// Where Ctrl-Break can come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    /// This process's.
    Shared,
    /// One without a window, which nobody can close.
    Own,
}

/// A process that does not run yet.
#[derive(Debug)]
pub(crate) struct Suspended {
    pub(crate) pid: u32,
    pub(crate) process: OwnedHandle,
    thread: OwnedHandle,
}

impl Suspended {
    /// Lets it run.
    pub(crate) fn resume(&self) -> io::Result<()> {
        // SAFETY: the handle is open, and came with all rights from the creation of the process.
        match unsafe { ResumeThread(self.thread.as_raw_handle()) } {
            u32::MAX => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        if !has_exited(&self.process) {
            return Ok(None);
        }
        let mut code = 0;
        // SAFETY: the handle is open, and the place is this function's own.
        match unsafe { GetExitCodeProcess(self.process.as_raw_handle(), &raw mut code) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Some(ExitStatus::from_raw(code))),
        }
    }
}

/// Creates it in a job and, with `CREATE_BREAKAWAY_FROM_JOB` in `flags`, outside of this process's.
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
    // The first of a process group: it can be asked by a Ctrl-Break that is for it alone, and a Ctrl-C on the
    // console does not reach it.
    let own = CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP | console;
    let form = CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT;
    let mut created = PROCESS_INFORMATION::default();
    // SAFETY: the texts end with a NUL, the environment with two; the command line may be written to; the
    // attributes, and what they point to, live until the call returns; and `cb` says that they are there.
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
        // SAFETY: it was just made for this process, and is closed by nobody else.
        process: unsafe { OwnedHandle::from_raw_handle(created.hProcess) },
        // SAFETY: as above.
        thread: unsafe { OwnedHandle::from_raw_handle(created.hThread) },
    })
}

/// A copy of a handle that a child may have. For as long as it is there, a child that another thread creates
/// in the usual way gets it, too: the end of a log, which does no harm.
fn inheritable(file: &File) -> io::Result<OwnedHandle> {
    let mut copy = ptr::null_mut();
    // SAFETY: the handles are open, and the place is this function's own.
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
    // SAFETY: it was just made, and is closed by nobody else.
    Ok(unsafe { OwnedHandle::from_raw_handle(copy) })
}

/// `NAME=VALUE` each, with a NUL behind it, and another one at the end.
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

/// The words as programs take them apart again
/// ([the rules](https://learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments)).
fn command_line(program: &OsStr, args: &[OsString]) -> Vec<u16> {
    const QUOTE: u16 = b'"' as u16;
    const BACKSLASH: u16 = b'\\' as u16;
    const SPACES: [u16; 2] = [b' ' as u16, b'\t' as u16];

    // The path of a file has no quotes, and backslashes mean nothing in the first word.
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
                // Those before it are doubled, and one more makes it a quote of the word's own.
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

/// What is said of a process that is to be created, besides the usual.
struct Attributes {
    room: Vec<usize>,
}

impl Attributes {
    const NUMBER: u32 = 2;

    fn new() -> io::Result<Self> {
        let mut size = 0;
        // SAFETY: without a list only the size is told, in a place that is this function's own.
        unsafe {
            InitializeProcThreadAttributeList(ptr::null_mut(), Self::NUMBER, 0, &raw mut size)
        };
        let mut room = vec![0_usize; size.div_ceil(size_of::<usize>())];
        // SAFETY: there is as much room as was asked for.
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

    /// The handles have to outlive the call that the attributes are for.
    fn set(&mut self, attribute: u32, handles: &[HANDLE]) -> io::Result<()> {
        // SAFETY: the list was initialised with room for this many attributes, and the length is that of
        // the handles.
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
        // SAFETY: it was initialised, and is not used any more.
        unsafe { DeleteProcThreadAttributeList(self.list()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_programs_take_them_apart() {
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
