//! The calls on named objects, one function each. Return codes become [`io::Error`] here.

#![expect(
    unsafe_code,
    reason = "sections, jobs and byte locks have no safe wrapper"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsHandle, AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use windows_sys::Wdk::Foundation::{NtQueryObject, ObjectBasicInformation};
use windows_sys::Win32::Foundation::{
    DUPLICATE_CLOSE_SOURCE, DUPLICATE_SAME_ACCESS, DuplicateHandle, ERROR_ALREADY_EXISTS,
    ERROR_FILE_NOT_FOUND, ERROR_INVALID_HANDLE, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION,
    ERROR_MORE_DATA, HANDLE, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OPEN_REPARSE_POINT, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
    READ_CONTROL, SYNCHRONIZE, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, IsProcessInJob, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_PROCESS_ID_LIST, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicProcessIdList, JobObjectExtendedLimitInformation, OpenJobObjectW,
    QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile,
    OpenFileMappingW, PAGE_READWRITE, UnmapViewOfFile,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, INFINITE, OpenEventW, PROCESS_DUP_HANDLE,
    PROCESS_QUERY_INFORMATION, PROCESS_SET_QUOTA, PROCESS_TERMINATE, SetEvent, WaitForSingleObject,
};
use windows_sys::Win32::System::WindowsProgramming::PUBLIC_OBJECT_BASIC_INFORMATION;

use crate::process::security::{Kind, is_ours, owner_only};
use crate::process::{self, Identity, KILLED, MYSELF, wide};

/// Where an object that could not be used came from.
pub(super) enum OpenFailure {
    /// It is there, and belongs to another user, or is of another kind.
    Foreign(&'static str),
    Failed(io::Error),
}

impl From<io::Error> for OpenFailure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Keeps a handle that a call has returned, and checks whose object it is. `Ok(None)`: there is none.
fn checked(handle: HANDLE, last: &io::Error) -> Result<Option<OwnedHandle>, OpenFailure> {
    if handle.is_null() {
        return match last.raw_os_error() {
            Some(code) if code == ERROR_FILE_NOT_FOUND as i32 => Ok(None),
            Some(code) if code == ERROR_INVALID_HANDLE as i32 => {
                Err(OpenFailure::Foreign("it is an object of another kind"))
            }
            _ => Err(OpenFailure::Failed(io::Error::from_raw_os_error(
                last.raw_os_error().unwrap_or(0),
            ))),
        };
    }
    // SAFETY: the call that returned it has made it for this process, and nobody else closes it.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    match is_ours(&handle, Kind::Object) {
        Ok(true) => Ok(Some(handle)),
        Ok(false) => Err(OpenFailure::Foreign("it belongs to another user")),
        Err(error) => Err(OpenFailure::Failed(error)),
    }
}

fn existed(last: &io::Error) -> bool {
    last.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32)
}

fn check(done: i32) -> io::Result<()> {
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn made(object: Option<OwnedHandle>) -> Result<OwnedHandle, OpenFailure> {
    object.ok_or_else(|| OpenFailure::Failed(io::Error::other("it was created, and is not there")))
}

// --- sections --------------------------------------------------------------------------------------

/// The numbers in a section, which begin as zeros.
pub(super) const WORDS: usize = 512;
const BYTES: usize = WORDS * size_of::<u64>();

/// Memory that all clients of a service share, there as long as anybody has it open.
pub(super) struct Section {
    handle: OwnedHandle,
    view: *const [AtomicU64; WORDS],
}

// SAFETY: the view is shared memory that is only ever accessed through atomics, and is unmapped when
// nobody can have a reference to it any more.
unsafe impl Send for Section {}
// SAFETY: as above.
unsafe impl Sync for Section {}

impl Section {
    pub(super) fn create(name: &str) -> Result<Self, OpenFailure> {
        let (name, security) = (wide(name), owner_only(Kind::Object)?);
        // SAFETY: `name` ends with a NUL, `security` is whole, and no file is behind the section.
        let handle = unsafe {
            CreateFileMappingW(
                INVALID_HANDLE_VALUE,
                &raw const security,
                PAGE_READWRITE,
                0,
                BYTES as u32,
                name.as_ptr(),
            )
        };
        let handle = made(checked(handle, &io::Error::last_os_error())?)?;
        Ok(Self::map(handle)?)
    }

    pub(super) fn open(name: &str) -> Result<Option<Self>, OpenFailure> {
        let name = wide(name);
        let access = FILE_MAP_READ | FILE_MAP_WRITE | READ_CONTROL;
        // SAFETY: `name` ends with a NUL.
        let handle = unsafe { OpenFileMappingW(access, 0, name.as_ptr()) };
        match checked(handle, &io::Error::last_os_error())? {
            Some(handle) => Ok(Some(Self::map(handle)?)),
            None => Ok(None),
        }
    }

    fn map(handle: OwnedHandle) -> io::Result<Self> {
        let access = FILE_MAP_READ | FILE_MAP_WRITE;
        // SAFETY: the handle is open, and no address is asked for, so nothing is replaced. A section that
        // is smaller than this is refused.
        let view = unsafe { MapViewOfFile(handle.as_raw_handle(), access, 0, 0, BYTES) };
        if view.Value.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            handle,
            view: view.Value.cast_const().cast(),
        })
    }

    pub(super) fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: the view is aligned to a page, has BYTES bytes, lives as long as `self`, and is only
        // accessed through atomics, by every process that maps it.
        unsafe { &*self.view }
    }

    pub(super) fn handle(&self) -> &OwnedHandle {
        &self.handle
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        let view = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.view.cast_mut().cast(),
        };
        // SAFETY: it was mapped by `map`, and nobody has a reference to it any more.
        unsafe { UnmapViewOfFile(view) };
    }
}

// --- events ----------------------------------------------------------------------------------------

/// A named event. Also what a reference is: a handle on one.
pub(super) struct Event(OwnedHandle);

impl Event {
    /// Opens it, or creates it, not set; once set it stays so.
    pub(super) fn create(name: &str) -> Result<Self, OpenFailure> {
        let (name, security) = (wide(name), owner_only(Kind::Object)?);
        // SAFETY: `name` ends with a NUL, and `security` is whole.
        let handle = unsafe { CreateEventW(&raw const security, 1, 0, name.as_ptr()) };
        Ok(Self(made(checked(handle, &io::Error::last_os_error())?)?))
    }

    pub(super) fn open(name: &str) -> Result<Option<Self>, OpenFailure> {
        let name = wide(name);
        let access = EVENT_MODIFY_STATE | SYNCHRONIZE | READ_CONTROL;
        // SAFETY: `name` ends with a NUL.
        let handle = unsafe { OpenEventW(access, 0, name.as_ptr()) };
        Ok(checked(handle, &io::Error::last_os_error())?.map(Self))
    }

    /// One without a name.
    fn unnamed() -> io::Result<Self> {
        // SAFETY: neither name nor attributes are given.
        let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made, and is closed by nobody else.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    pub(super) fn set(&self) -> io::Result<()> {
        // SAFETY: the handle is open, and may be set.
        check(unsafe { SetEvent(self.0.as_raw_handle()) })
    }

    pub(super) fn wait(&self) -> io::Result<()> {
        // SAFETY: the handle is open, and may be waited for.
        match unsafe { WaitForSingleObject(self.0.as_raw_handle(), INFINITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// How many handles on it there are, in all processes.
    pub(super) fn handles(&self) -> io::Result<u32> {
        let mut information = PUBLIC_OBJECT_BASIC_INFORMATION::default();
        // SAFETY: the handle is open, and the length says how much may be written.
        let status = unsafe {
            NtQueryObject(
                self.0.as_raw_handle(),
                ObjectBasicInformation,
                (&raw mut information).cast(),
                size_of::<PUBLIC_OBJECT_BASIC_INFORMATION>() as u32,
                ptr::null_mut(),
            )
        };
        match status {
            0 => Ok(information.HandleCount),
            status => Err(io::Error::other(format!(
                "NtQueryObject answered {status:#010x}"
            ))),
        }
    }
}

/// Whether this Windows counts handles as all of this needs it: what it tells is documented as subject to
/// change.
pub(super) fn counts_handles() -> io::Result<bool> {
    let one = Event::unnamed()?;
    let before = one.handles()?;
    let other = Event(one.0.try_clone()?);
    let with_other = one.handles()?;
    drop(other);
    Ok((before, with_other, one.handles()?) == (1, 2, 1))
}

// --- jobs ------------------------------------------------------------------------------------------

// To ask whether a process is in a job Windows wants no more than PROCESS_QUERY_LIMITED_INFORMATION, and Wine 8
// PROCESS_QUERY_INFORMATION.

/// A named job object. The processes in it end with the last handle on it.
pub(super) struct Job(OwnedHandle);

impl Job {
    /// Opens it, or creates it; true if it was there.
    pub(super) fn create(name: &str) -> Result<(Self, bool), OpenFailure> {
        let (name, security) = (wide(name), owner_only(Kind::Object)?);
        // SAFETY: `name` ends with a NUL, and `security` is whole.
        let handle = unsafe { CreateJobObjectW(&raw const security, name.as_ptr()) };
        let last = io::Error::last_os_error();
        let existed = existed(&last);
        let job = Self(made(checked(handle, &last)?)?);
        if !existed {
            job.end_with_last_handle()?;
        }
        Ok((job, existed))
    }

    pub(super) fn open(name: &str) -> Result<Option<Self>, OpenFailure> {
        /// JOB_OBJECT_ALL_ACCESS
        const ALL: u32 = 0x001f_003f;
        let name = wide(name);
        // SAFETY: `name` ends with a NUL.
        let handle = unsafe { OpenJobObjectW(ALL, 0, name.as_ptr()) };
        Ok(checked(handle, &io::Error::last_os_error())?.map(Self))
    }

    fn end_with_last_handle(&self) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        // Without BREAKAWAY_OK: whatever a service starts ends with it.
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: the handle is open, and the length says how much may be read.
        check(unsafe {
            SetInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
            )
        })
    }

    /// Puts a process into it, with whatever it starts from then on. One that is gone, or in it, is no
    /// error.
    pub(super) fn assign(&self, identity: Identity) -> io::Result<()> {
        let access = PROCESS_SET_QUOTA | PROCESS_TERMINATE | PROCESS_QUERY_INFORMATION;
        let Some(process) = process::open_identity(identity, access)? else {
            return Ok(());
        };
        self.assign_handle(&process)
    }

    pub(super) fn assign_handle(&self, process: &impl AsHandle) -> io::Result<()> {
        let process = process.as_handle().as_raw_handle();
        let mut inside = 0;
        // SAFETY: both handles are open, and the place is this function's own.
        check(unsafe { IsProcessInJob(process, self.0.as_raw_handle(), &raw mut inside) })?;
        if inside != 0 {
            return Ok(());
        }
        // SAFETY: both handles are open; whether it may be done the kernel says.
        check(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process) })
    }

    /// Ends every process in it, and waits until they are gone. False if some are still there.
    pub(super) fn end_all(&self, patience: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        loop {
            let members = self.members()?;
            if members.is_empty() {
                return Ok(true);
            }
            // Opened before they are told to end: afterwards their pids may be others'.
            let mut opened = Vec::new();
            for pid in members {
                if let Ok(Some(process)) = process::open(pid, PROCESS_QUERY_INFORMATION) {
                    opened.push(process);
                }
            }
            // SAFETY: the handle is open.
            check(unsafe { TerminateJobObject(self.0.as_raw_handle(), KILLED) })?;
            for process in opened {
                let left = patience.saturating_sub(begun.elapsed());
                if self.has(&process)? && !process::wait_for(&process, left)? {
                    return Ok(false);
                }
            }
            // The list may have been longer than the room for it, or a process may have come in.
            if begun.elapsed() >= patience {
                return Ok(self.members()?.is_empty());
            }
        }
    }

    /// The handle may be asked for more than little: PROCESS_QUERY_INFORMATION.
    pub(super) fn has(&self, process: &OwnedHandle) -> io::Result<bool> {
        let mut inside = 0;
        // SAFETY: both handles are open, and the place is this function's own.
        check(unsafe {
            IsProcessInJob(
                process.as_raw_handle(),
                self.0.as_raw_handle(),
                &raw mut inside,
            )
        })?;
        Ok(inside != 0)
    }

    /// The pids of the processes in it, as far as there is room.
    fn members(&self) -> io::Result<Vec<u32>> {
        #[repr(C)]
        struct List {
            head: JOBOBJECT_BASIC_PROCESS_ID_LIST,
            rest: [usize; 1023],
        }
        let mut list = List {
            head: JOBOBJECT_BASIC_PROCESS_ID_LIST::default(),
            rest: [0; 1023],
        };
        // SAFETY: the handle is open, and the length says how much may be written.
        let done = check(unsafe {
            QueryInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectBasicProcessIdList,
                (&raw mut list).cast(),
                size_of::<List>() as u32,
                ptr::null_mut(),
            )
        });
        match done {
            Err(error) if error.raw_os_error() != Some(ERROR_MORE_DATA as i32) => {
                return Err(error);
            }
            _ => {}
        }
        let first = list.head.ProcessIdList.into_iter();
        let all = first
            .chain(list.rest)
            .take(list.head.NumberOfProcessIdsInList as usize);
        // Pids are 32 bits wide, in a list that has room for pointers.
        Ok(all.map(|pid| pid as u32).collect())
    }

    pub(super) fn handle(&self) -> &OwnedHandle {
        &self.0
    }
}

/// Gives a process a handle of its own on an object, which keeps that as long as the process lives. What
/// the handle is called there; 0 if the process is gone.
pub(super) fn give(object: &OwnedHandle, identity: Identity) -> io::Result<u64> {
    let Some(process) = process::open_identity(identity, PROCESS_DUP_HANDLE)? else {
        return Ok(0);
    };
    let mut given = ptr::null_mut();
    // SAFETY: all handles are open, and the place is this function's own. The other process gets one
    // handle more, which it does not know of, and cannot inherit to others.
    check(unsafe {
        DuplicateHandle(
            MYSELF,
            object.as_raw_handle(),
            process.as_raw_handle(),
            &raw mut given,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        )
    })?;
    Ok(given.addr() as u64)
}

/// Takes back what [`give`] has given.
pub(super) fn take(handle: u64, identity: Identity) -> io::Result<()> {
    if handle == 0 {
        return Ok(());
    }
    let Some(process) = process::open_identity(identity, PROCESS_DUP_HANDLE)? else {
        return Ok(());
    };
    let source: HANDLE = ptr::without_provenance_mut(handle as usize);
    let mut taken = ptr::null_mut();
    // Moved into this process and closed here: closing it over there, without a target, Wine 8 does, and then
    // says that it could not.
    //
    // SAFETY: the process handles are open, and the place is this function's own. The handle in the other
    // process was put there by `give` for nobody's use, so closing it takes nothing from that process.
    check(unsafe {
        DuplicateHandle(
            process.as_raw_handle(),
            source,
            MYSELF,
            &raw mut taken,
            0,
            0,
            DUPLICATE_SAME_ACCESS | DUPLICATE_CLOSE_SOURCE,
        )
    })?;
    // SAFETY: it was just made for this process, and is closed by nobody else.
    drop(unsafe { OwnedHandle::from_raw_handle(taken) });
    Ok(())
}

// --- locks -----------------------------------------------------------------------------------------

/// Locks on single bytes far beyond the end of a file, each of which belongs to the handle and goes with
/// the process.
pub(super) struct LockFile(File);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Exclusive,
    Shared,
}

impl LockFile {
    pub(super) fn open(path: &Path) -> Result<Self, OpenFailure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(path)?;
        match is_ours(&file, Kind::File)? {
            true => Ok(Self(file)),
            false => Err(OpenFailure::Foreign(
                "its lock file belongs to another user",
            )),
        }
    }

    /// Waits until it can be had.
    pub(super) fn lock(&self, byte: u64, mode: Mode) -> io::Result<()> {
        self.call(byte, mode, 0).map(drop)
    }

    /// False: somebody has it.
    pub(super) fn try_lock(&self, byte: u64, mode: Mode) -> io::Result<bool> {
        self.call(byte, mode, LOCKFILE_FAIL_IMMEDIATELY)
    }

    fn call(&self, byte: u64, mode: Mode, flags: u32) -> io::Result<bool> {
        let flags = match mode {
            Mode::Exclusive => flags | LOCKFILE_EXCLUSIVE_LOCK,
            Mode::Shared => flags,
        };
        let mut place = place(byte);
        // SAFETY: the handle is open for synchronous calls, so `place` is not used any more when this
        // returns.
        let done = unsafe { LockFileEx(self.0.as_raw_handle(), flags, 0, 1, 0, &raw mut place) };
        match check(done) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error().map(|code| code as u32) {
                Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING)
                    if flags & LOCKFILE_FAIL_IMMEDIATELY != 0 =>
                {
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }

    pub(super) fn unlock(&self, byte: u64) -> io::Result<()> {
        let mut place = place(byte);
        // SAFETY: as for the lock.
        check(unsafe { UnlockFileEx(self.0.as_raw_handle(), 0, 1, 0, &raw mut place) })
    }
}

/// Locks a byte of a file that nobody reads or writes, until the file is closed. False: somebody has it.
pub(crate) fn try_lock_file(file: &File) -> io::Result<bool> {
    LockFile(file.try_clone()?).try_lock(u64::MAX >> 2, Mode::Exclusive)
}

fn place(byte: u64) -> OVERLAPPED {
    let mut place = OVERLAPPED::default();
    place.Anonymous.Anonymous.Offset = byte as u32;
    place.Anonymous.Anonymous.OffsetHigh = (byte >> 32) as u32;
    place
}
