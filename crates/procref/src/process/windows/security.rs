//! Whose something is: this user's, and nobody else's.

#![expect(unsafe_code, reason = "owners are told by bare system calls")]

use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsHandle, AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SE_KERNEL_OBJECT, SE_OBJECT_TYPE,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, EqualSid, GetTokenInformation, IsWellKnownSid,
    OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES,
    TOKEN_INFORMATION_CLASS, TOKEN_OWNER, TOKEN_QUERY, TOKEN_USER, TokenOwner, TokenUser,
    WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::System::Threading::OpenProcessToken;

use super::{MYSELF, wide};

/// What has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A named object of the kernel's.
    Object,
    File,
}

/// Something that Windows allocated, and wants back by LocalFree.
#[derive(Debug)]
struct Local(*mut core::ffi::c_void);

// SAFETY: what it points to is written once, before there is a `Local`, and only read from then on.
unsafe impl Send for Local {}
// SAFETY: as above.
unsafe impl Sync for Local {}

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it came from LocalAlloc, by the functions below, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// The user that this process runs as.
struct User {
    /// A TOKEN_USER and a TOKEN_OWNER, with the SIDs behind them.
    user: Vec<u64>,
    owner: Vec<u64>,
    /// What new objects, and new directories, are created with.
    object: Local,
    directory: Local,
}

fn user() -> io::Result<&'static User> {
    static USER: OnceLock<User> = OnceLock::new();
    if let Some(user) = USER.get() {
        return Ok(user);
    }
    let found = User::look_up()?;
    Ok(USER.get_or_init(|| found))
}

impl User {
    fn look_up() -> io::Result<Self> {
        let mut token = ptr::null_mut();
        // SAFETY: the pseudo handle is always open, and the place is this function's own.
        let done = unsafe { OpenProcessToken(MYSELF, TOKEN_QUERY, &raw mut token) };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and is closed by nobody else.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
        let user = token_information(&token, TokenUser)?;
        let owner = token_information(&token, TokenOwner)?;
        let sid = sid_as_text(sid_of_user(&user))?;
        // The owner is said as well: that of a new object would be the group of administrators where the
        // user is one. D:P, protected: nothing is inherited. GA, everything, for the user alone.
        let object = descriptor(&format!("O:{sid}D:P(A;;GA;;;{sid})"))?;
        let directory = descriptor(&format!("O:{sid}D:P(A;OICI;FA;;;{sid})"))?;
        Ok(Self {
            user,
            owner,
            object,
            directory,
        })
    }
}

fn sid_of_user(information: &[u64]) -> PSID {
    // SAFETY: the kernel has written a TOKEN_USER there, and a u64 is aligned as one is.
    unsafe { (*information.as_ptr().cast::<TOKEN_USER>()).User.Sid }
}

fn sid_of_owner(information: &[u64]) -> PSID {
    // SAFETY: the kernel has written a TOKEN_OWNER there, and a u64 is aligned as one is.
    unsafe { (*information.as_ptr().cast::<TOKEN_OWNER>()).Owner }
}

fn token_information(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> io::Result<Vec<u64>> {
    // A SID has at most 68 bytes, and the structure before it 16.
    let mut room = vec![0_u64; 32];
    let size = size_of_val(&room[..]) as u32;
    let mut written = 0;
    // SAFETY: the token is open for queries, and `size` says how much of `room` may be written.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            class,
            room.as_mut_ptr().cast(),
            size,
            &raw mut written,
        )
    };
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(room),
    }
}

fn sid_as_text(sid: PSID) -> io::Result<String> {
    let mut text = ptr::null_mut();
    // SAFETY: `sid` points to a SID that the caller keeps, and the place is this function's own.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken(text))
}

/// A text that Windows allocated, which ends with a NUL.
fn taken(text: *mut u16) -> String {
    let kept = Local(text.cast());
    let mut units = Vec::new();
    let mut next = text;
    loop {
        // SAFETY: the text ends with a NUL, and `next` has not passed it.
        let unit = unsafe { next.read() };
        if unit == 0 {
            break;
        }
        units.push(unit);
        next = next.wrapping_add(1);
    }
    drop(kept);
    String::from_utf16_lossy(&units)
}

fn descriptor(text: &str) -> io::Result<Local> {
    let text = wide(text);
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: `text` ends with a NUL, and the place is this function's own.
    let done = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            ptr::null_mut(),
        )
    };
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(Local(descriptor)),
    }
}

/// What a new object is created with: it is this user's, nobody else can open it, and no child inherits
/// the handle. Points to memory that is never freed.
pub(crate) fn owner_only(kind: Kind) -> io::Result<SECURITY_ATTRIBUTES> {
    let user = user()?;
    let descriptor = match kind {
        Kind::Object => &user.object,
        Kind::File => &user.directory,
    };
    Ok(SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    })
}

/// Whether something that was opened, with the right to read its security, is this user's.
///
/// Of a file, it may also be that of the group that owns what the user creates: an administrator's files
/// are the administrators'.
pub(crate) fn is_ours(handle: &impl AsHandle, kind: Kind) -> io::Result<bool> {
    let user = user()?;
    let owner = Owner::of(handle.as_handle().as_raw_handle(), kind)?;
    // SAFETY: both are SIDs, kept until the end of this function.
    let ours = unsafe { EqualSid(owner.sid, sid_of_user(&user.user)) } != 0;
    if ours || kind == Kind::Object {
        return Ok(ours);
    }
    // SAFETY: as above.
    Ok(unsafe { EqualSid(owner.sid, sid_of_owner(&user.owner)) } != 0)
}

/// Whether a file that was opened is the system's, or the administrators'.
pub(crate) fn is_of_system(file: &impl AsHandle) -> io::Result<bool> {
    let owner = Owner::of(file.as_handle().as_raw_handle(), Kind::File)?;
    let is = |kind| {
        // SAFETY: it is a SID, kept until the end of this function.
        unsafe { IsWellKnownSid(owner.sid, kind) != 0 }
    };
    Ok(is(WinLocalSystemSid) || is(WinBuiltinAdministratorsSid))
}

/// Owner and access list of a file or directory, in the security descriptor definition language.
pub(crate) fn access(path: &Path) -> io::Result<String> {
    const PARTS: u32 = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    let name: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let mut descriptor = ptr::null_mut();
    // SAFETY: `name` ends with a NUL, and the one place that is written is this function's own.
    let error = unsafe {
        GetNamedSecurityInfoW(
            name.as_ptr(),
            SE_FILE_OBJECT,
            PARTS,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error as i32));
    }
    let descriptor = Local(descriptor);
    let mut text = ptr::null_mut();
    // SAFETY: the descriptor is whole and kept, and the place is this function's own.
    let done = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor.0,
            SDDL_REVISION_1,
            PARTS,
            &raw mut text,
            ptr::null_mut(),
        )
    };
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(taken(text)),
    }
}

/// The user that this process runs as: its SID, as text.
pub(crate) fn own_sid() -> io::Result<String> {
    sid_as_text(sid_of_user(&user()?.user))
}

/// An owner, and the descriptor it stands in.
struct Owner {
    sid: PSID,
    _descriptor: Local,
}

impl Owner {
    fn of(handle: HANDLE, kind: Kind) -> io::Result<Self> {
        let kind: SE_OBJECT_TYPE = match kind {
            Kind::Object => SE_KERNEL_OBJECT,
            Kind::File => SE_FILE_OBJECT,
        };
        let (mut sid, mut descriptor) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the handle is open, and the two places that are written are this function's own.
        let error = unsafe {
            GetSecurityInfo(
                handle,
                kind,
                OWNER_SECURITY_INFORMATION,
                &raw mut sid,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                &raw mut descriptor,
            )
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error as i32));
        }
        let owner = Self {
            sid,
            _descriptor: Local(descriptor),
        };
        if owner.sid.is_null() {
            return Err(io::Error::other("it has no owner"));
        }
        Ok(owner)
    }
}
