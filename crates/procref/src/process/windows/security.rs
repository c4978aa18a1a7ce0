//! Whose something is: this user's, and nobody else's.

use std::io;
use std::os::windows::io::AsHandle;
use std::path::Path;
use std::sync::OnceLock;

use windows_sys::Win32::Security::Authorization::{SE_FILE_OBJECT, SE_KERNEL_OBJECT};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;

use super::{Descriptor, access_text, own_sids, owner_of};

/// What has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A named object of the kernel's.
    Object,
    File,
}

/// The local system, and the group of administrators
/// ([well-known SIDs](https://learn.microsoft.com/windows/win32/secauthz/well-known-sids)).
const SYSTEM: [&str; 2] = ["S-1-5-18", "S-1-5-32-544"];

/// The user that this process runs as.
struct User {
    /// Its SID, as text: that has one form only, so texts can be compared.
    sid: String,
    /// Of whom the files are that it creates.
    owner: String,
    /// What new objects, and new directories, are created with.
    object: Descriptor,
    directory: Descriptor,
}

fn user() -> io::Result<&'static User> {
    static USER: OnceLock<User> = OnceLock::new();
    if let Some(user) = USER.get() {
        return Ok(user);
    }
    let found = User::query()?;
    Ok(USER.get_or_init(|| found))
}

impl User {
    fn query() -> io::Result<Self> {
        let [sid, owner] = own_sids()?;
        // The owner is said as well: that of a new object would be the group of administrators where the
        // user is one. D:P, protected: nothing is inherited. GA, everything, for the user alone.
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

/// What a new object, or a new directory, is created with: it is this user's, and nobody else can open it.
pub(super) fn descriptor(kind: Kind) -> io::Result<&'static Descriptor> {
    let user = user()?;
    Ok(match kind {
        Kind::Object => &user.object,
        Kind::File => &user.directory,
    })
}

/// The same for the calls that take it with the rest. Points to memory that is never freed.
pub(crate) fn owner_only(kind: Kind) -> io::Result<SECURITY_ATTRIBUTES> {
    descriptor(kind).map(Descriptor::attributes)
}

fn owner(handle: &impl AsHandle, kind: Kind) -> io::Result<String> {
    let kind = match kind {
        Kind::Object => SE_KERNEL_OBJECT,
        Kind::File => SE_FILE_OBJECT,
    };
    owner_of(handle, kind)
}

/// Whether something that was opened, with the right to read its security, is this user's.
///
/// Of a file, it may also be that of the group that owns what the user creates: an administrator's files
/// are the administrators'.
pub(crate) fn is_ours(handle: &impl AsHandle, kind: Kind) -> io::Result<bool> {
    let user = user()?;
    let owner = owner(handle, kind)?;
    Ok(owner == user.sid || kind == Kind::File && owner == user.owner)
}

/// Whether a file that was opened is the system's, or the administrators'.
pub(crate) fn is_of_system(file: &impl AsHandle) -> io::Result<bool> {
    let owner = owner(file, Kind::File)?;
    Ok(SYSTEM.contains(&owner.as_str()))
}

/// Owner and access list of a file or directory, in the security descriptor definition language.
pub(crate) fn access(path: &Path) -> io::Result<String> {
    access_text(path)
}

/// The user that this process runs as: its SID, as text.
pub(crate) fn own_sid() -> io::Result<String> {
    Ok(user()?.sid.clone())
}
