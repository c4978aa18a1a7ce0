//! Owners of files and named objects, and descriptors that admit the current user only.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID,
    SECURITY_ATTRIBUTES, TOKEN_INFORMATION_CLASS, TOKEN_OWNER, TOKEN_QUERY, TOKEN_USER, TokenOwner,
    TokenUser,
};
use windows_sys::Win32::System::Threading::OpenProcessToken;

use crate::call::{check, check_code, wide};
use crate::process::MYSELF;

/// The kind of an object with an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A named object of the kernel.
    Object,
    /// A file or a directory.
    File,
}

/// The local system, and the group of administrators
/// ([well-known SIDs](https://learn.microsoft.com/windows/win32/secauthz/well-known-sids)).
const SYSTEM: [&str; 2] = ["S-1-5-18", "S-1-5-32-544"];

/// The user that this process runs as.
struct User {
    /// The user's SID as text. A SID has only one text, so texts can be compared.
    sid: String,
    /// The SID that owns the files that this user creates.
    owner: String,
    /// The descriptor of new objects.
    object: Descriptor,
    /// The descriptor of new directories.
    directory: Descriptor,
}

fn user() -> io::Result<&'static User> {
    static USER: OnceLock<User> = OnceLock::new();
    if let Some(user) = USER.get() {
        return Ok(user);
    }
    let user = User::query()?;
    Ok(USER.get_or_init(|| user))
}

impl User {
    fn query() -> io::Result<Self> {
        let [sid, owner] = own_sids()?;
        // O names the owner: if the user is an administrator, the default owner would be the administrators'
        // group. D:P means that nothing is inherited. GA and FA give all rights to this user. Other users
        // have none.
        let object = Descriptor::parse(&format!("O:{sid}D:P(A;;GA;;;{sid})"))?;
        let directory = Descriptor::parse(&format!("O:{sid}D:P(A;OICI;FA;;;{sid})"))?;
        Ok(Self {
            sid,
            owner,
            object,
            directory,
        })
    }
}

/// Returns attributes with which a new object, or a new directory, admits the current user only. Child processes do not
/// inherit the handle. The attributes point to memory that is never freed.
pub(crate) fn owner_only(kind: Kind) -> io::Result<SECURITY_ATTRIBUTES> {
    let user = user()?;
    Ok(match kind {
        Kind::Object => user.object.attributes(),
        Kind::File => user.directory.attributes(),
    })
}

/// Returns `true` if an open file or object belongs to the current user. The handle must have `READ_CONTROL`.
///
/// Also returns `true` for a file of the group that owns the files which the user creates. For an
/// administrator that is the administrators' group.
///
/// # Errors
///
/// Returns an error if the call fails to return the owner.
pub fn is_ours(handle: &impl AsHandle, kind: Kind) -> io::Result<bool> {
    let user = user()?;
    let owner = owner(handle, kind)?;
    Ok(owner == user.sid || kind == Kind::File && owner == user.owner)
}

/// Returns `true` if an open file belongs to the current user, to the administrators or to the system. The latter two
/// can change every file anyway.
///
/// # Errors
///
/// Returns an error if the call fails to return the owner.
pub fn is_trusted(file: &impl AsHandle) -> io::Result<bool> {
    if is_ours(file, Kind::File)? {
        return Ok(true);
    }
    let owner = owner(file, Kind::File)?;
    Ok(SYSTEM.contains(&owner.as_str()))
}

/// Returns the SID of the user that this process runs as, as text.
///
/// # Errors
///
/// Returns the error of the system call.
pub fn own_sid() -> io::Result<String> {
    Ok(user()?.sid.clone())
}

/// Returns the owner and the access list of a file or directory, in the security descriptor definition language.
///
/// # Errors
///
/// Returns an error if the path does not exist, or if the call fails.
pub fn access(path: &Path) -> io::Result<String> {
    const PARTS: u32 = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    let name = wide(path);
    let mut descriptor = ptr::null_mut();
    // SAFETY: `name` ends with a NUL, and the only pointer that is not null points to a local variable.
    check_code(unsafe {
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
    })?;
    Descriptor(LocalMemory(descriptor)).to_text(PARTS)
}

/// Memory that Windows has allocated, and that `LocalFree` frees.
#[derive(Debug)]
struct LocalMemory(*mut core::ffi::c_void);

// SAFETY: Windows writes the memory before a `LocalMemory` exists. Afterwards it is only read.
unsafe impl Send for LocalMemory {}
// SAFETY: the memory is only read while a `LocalMemory` exists.
unsafe impl Sync for LocalMemory {}

impl Drop for LocalMemory {
    fn drop(&mut self) {
        // SAFETY: Windows returned the memory to one of the functions below, and no other code frees it.
        unsafe { LocalFree(self.0) };
    }
}

/// A complete security descriptor.
#[derive(Debug)]
struct Descriptor(LocalMemory);

impl Descriptor {
    /// Parses the security descriptor definition language.
    fn parse(text: &str) -> io::Result<Self> {
        let text = wide(text);
        let mut descriptor = ptr::null_mut();
        // SAFETY: `text` ends with a NUL, and the call writes to a local variable.
        check(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        })?;
        Ok(Self(LocalMemory(descriptor)))
    }

    fn attributes(&'static self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        }
    }

    /// Returns the given parts in the security descriptor definition language.
    fn to_text(&self, parts: u32) -> io::Result<String> {
        let mut text = ptr::null_mut();
        // SAFETY: `self` keeps a complete descriptor, and the call writes to a local variable.
        check(unsafe {
            ConvertSecurityDescriptorToStringSecurityDescriptorW(
                self.0.0,
                SDDL_REVISION_1,
                parts,
                &raw mut text,
                ptr::null_mut(),
            )
        })?;
        Ok(into_string(text))
    }
}

/// Copies a text that Windows has allocated, and frees it.
fn into_string(text: *mut u16) -> String {
    let memory = LocalMemory(text.cast());
    let mut units = Vec::new();
    let mut next = text;
    loop {
        // SAFETY: the text ends with a NUL, and the loop stops there, so `next` is inside it.
        let unit = unsafe { next.read() };
        if unit == 0 {
            break;
        }
        units.push(unit);
        next = next.wrapping_add(1);
    }
    drop(memory);
    String::from_utf16_lossy(&units)
}

/// Returns a SID as text. The caller keeps the SID.
fn sid_to_text(sid: PSID) -> io::Result<String> {
    let mut text = ptr::null_mut();
    // SAFETY: `sid` points to a SID that the caller keeps, and the call writes to a local variable.
    check(unsafe { ConvertSidToStringSidW(sid, &raw mut text) })?;
    Ok(into_string(text))
}

/// Returns the SID of the user that this process runs as, and the SID that owns the files that it creates.
fn own_sids() -> io::Result<[String; 2]> {
    let mut token = ptr::null_mut();
    // SAFETY: the pseudo handle is always open, and the call writes to a local variable.
    check(unsafe { OpenProcessToken(MYSELF, TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the call has just opened this handle, and no other code knows it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let user = token_information(&token, TokenUser)?;
    let owner = token_information(&token, TokenOwner)?;
    // SAFETY: the kernel has written a TOKEN_USER there, and a u64 has its alignment.
    let user_sid = unsafe { (*user.as_ptr().cast::<TOKEN_USER>()).User.Sid };
    // SAFETY: the kernel has written a TOKEN_OWNER there, and a u64 has its alignment.
    let owner_sid = unsafe { (*owner.as_ptr().cast::<TOKEN_OWNER>()).Owner };
    Ok([sid_to_text(user_sid)?, sid_to_text(owner_sid)?])
}

/// Returns a structure that describes a token. The SIDs that it points to follow it in the buffer.
fn token_information(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> io::Result<Vec<u64>> {
    // The structure has 16 bytes, and a SID has at most 68.
    let mut room = vec![0_u64; 32];
    let size = size_of_val(&room[..]) as u32;
    let mut written = 0;
    // SAFETY: the token is open for queries, and `size` is the length of `room` in bytes.
    check(unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            class,
            room.as_mut_ptr().cast(),
            size,
            &raw mut written,
        )
    })?;
    Ok(room)
}

/// Returns the SID of the owner as text. The handle must have `READ_CONTROL`.
fn owner(handle: &impl AsHandle, kind: Kind) -> io::Result<String> {
    let kind = match kind {
        Kind::Object => SE_KERNEL_OBJECT,
        Kind::File => SE_FILE_OBJECT,
    };
    let (mut sid, mut descriptor) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: `handle` keeps the handle open, and the pointers that are not null point to local variables.
    check_code(unsafe {
        GetSecurityInfo(
            handle.as_handle().as_raw_handle(),
            kind,
            OWNER_SECURITY_INFORMATION,
            &raw mut sid,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    })?;
    // `sid` points into the descriptor.
    let descriptor = LocalMemory(descriptor);
    if sid.is_null() {
        return Err(io::Error::other("it has no owner"));
    }
    let text = sid_to_text(sid);
    drop(descriptor);
    text
}
