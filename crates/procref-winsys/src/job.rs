//! Named job objects: processes that end with the last handle on their job.
//!
//! To query whether a process is in a job, Windows requires no more than `PROCESS_QUERY_LIMITED_INFORMATION`. Wine 8
//! requires `PROCESS_QUERY_INFORMATION`.

use std::io;
use std::os::windows::io::{AsRawHandle as _, OwnedHandle};
use std::ptr;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, ERROR_MORE_DATA};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, IsProcessInJob, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_PROCESS_ID_LIST, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicProcessIdList, JobObjectExtendedLimitInformation, OpenJobObjectW,
    QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    PROCESS_QUERY_INFORMATION, PROCESS_SET_QUOTA, PROCESS_TERMINATE,
};

use crate::OpenFailure;
use crate::call::{check, wide};
use crate::handle::wait_timeout;
use crate::open_failure::{checked, created};
use crate::process::{KILLED, open, open_created};
use crate::security::{Kind, owner_only};

/// A handle on a job. When the last handle is closed, Windows ends every process in the job.
#[derive(Debug)]
pub struct Job(OwnedHandle);

impl Job {
    /// Opens the job of this name, or creates it. Also returns `true` if the job existed.
    ///
    /// # Errors
    ///
    /// Returns an error if the object belongs to another user or is not a job, or if the call fails.
    pub fn create(name: &str) -> Result<(Self, bool), OpenFailure> {
        let (name, security) = (wide(name), owner_only(Kind::Object)?);
        // SAFETY: `name` ends with a NUL. `security` is complete, and its descriptor is never freed.
        let handle = unsafe { CreateJobObjectW(&raw const security, name.as_ptr()) };
        let last = io::Error::last_os_error();
        let existed = last.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32);
        let job = Self(created(handle, &last)?);
        if !existed {
            job.end_with_last_handle()?;
        }
        Ok((job, existed))
    }

    /// Opens the job of this name. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// See [`create`](Self::create).
    pub fn open(name: &str) -> Result<Option<Self>, OpenFailure> {
        /// `windows-sys` does not define it.
        const JOB_OBJECT_ALL_ACCESS: u32 = 0x001f_003f;
        let name = wide(name);
        // SAFETY: `name` ends with a NUL and outlives the call.
        let handle = unsafe { OpenJobObjectW(JOB_OBJECT_ALL_ACCESS, 0, name.as_ptr()) };
        Ok(checked(handle, &io::Error::last_os_error())?.map(Self))
    }

    fn end_with_last_handle(&self) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        // BREAKAWAY_OK is not set, so every process that a process of the job starts is in the job, too.
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: `self` keeps the handle open, and the length is that of the local variable that the call reads.
        check(unsafe {
            SetInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
            )
        })
    }

    /// Puts a process into the job. Its later children will be in the job, too.
    ///
    /// The process is named by its pid and creation time. Succeeds if the process has exited or is in the job already.
    ///
    /// # Errors
    ///
    /// Returns an error if the process cannot be opened, or is in another job that does not permit it.
    pub fn assign(&self, pid: u32, creation_time: u64) -> io::Result<()> {
        let access = PROCESS_SET_QUOTA | PROCESS_TERMINATE | PROCESS_QUERY_INFORMATION;
        let Some(process) = open_created(pid, creation_time, access)? else {
            return Ok(());
        };
        if self.has(&process)? {
            return Ok(());
        }
        // SAFETY: both handles are open. The kernel checks their access rights.
        check(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process.as_raw_handle()) })
    }

    /// Ends every process in the job, and waits until all have exited, at most `timeout`.
    ///
    /// Returns `false` if some are still alive.
    ///
    /// # Errors
    ///
    /// Returns an error if the call fails to end the processes, or to wait for them.
    pub fn terminate(&self, timeout: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            let members = self.members()?;
            if members.is_empty() {
                return Ok(true);
            }
            // Open the processes first, because after their exit other processes may have their pids.
            let mut opened = Vec::new();
            for pid in members {
                if let Ok(Some(process)) = open(pid, PROCESS_QUERY_INFORMATION) {
                    opened.push(process);
                }
            }
            // SAFETY: `self` keeps the handle open.
            check(unsafe { TerminateJobObject(self.0.as_raw_handle(), KILLED) })?;
            for process in opened {
                let left = timeout.saturating_sub(start.elapsed());
                if self.has(&process)? && !wait_timeout(&process, left)? {
                    return Ok(false);
                }
            }
            // Repeat, because the list may not have contained all processes, and another process may have
            // joined the job.
            if start.elapsed() >= timeout {
                return Ok(self.members()?.is_empty());
            }
        }
    }

    /// Returns `true` if a process is in the job. On Wine 8 the handle needs `PROCESS_QUERY_INFORMATION`.
    ///
    /// # Errors
    ///
    /// Returns an error if the handle does not permit the query.
    pub fn has(&self, process: &OwnedHandle) -> io::Result<bool> {
        let mut inside = 0;
        // SAFETY: both handles are open, and the call writes to a local variable.
        check(unsafe {
            IsProcessInJob(
                process.as_raw_handle(),
                self.0.as_raw_handle(),
                &raw mut inside,
            )
        })?;
        Ok(inside != 0)
    }

    /// Returns the pids of the processes in the job, the first 1,024 of them.
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
        // SAFETY: `self` keeps the handle open, and the length is that of the local variable that the call writes to.
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
        // The list has the width of pointers. Pids have 32 bits.
        Ok(all.map(|pid| pid as u32).collect())
    }

    /// Returns the handle on the job.
    #[must_use]
    pub fn handle(&self) -> &OwnedHandle {
        &self.0
    }
}
