//! Which version or configuration of a service a client wants.

use super::platform::Platform;
use super::resolved_instance::ResolvedInstance;
use crate::error::{Error, Result};

/// The longest fingerprint, in bytes.
const MAX_LENGTH: usize = 4096;

/// What becomes of a client whose [fingerprint](crate::SharedServiceBuilder::fingerprint) is not that of
/// the instance that runs.
///
/// ```no_run
/// use procref::{Mismatch, SharedService};
///
/// # fn example() -> procref::Result<()> {
/// // A client that must not talk to a server of another version ...
/// let editor = SharedService::builder("language-server").fingerprint("2.1", Mismatch::Refuse);
/// // ... one that can talk to any, and says what it would start itself ...
/// let viewer = SharedService::builder("language-server").fingerprint("2.1", Mismatch::Join);
/// // ... and tests of three schemas, which have a database each.
/// for schema in ["one", "two", "three"] {
///     let tests = SharedService::builder("database").fingerprint(schema, Mismatch::Separate);
///     tests.build()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// It gets [`Error::Fingerprint`], also where the instance has no fingerprint.
    #[default]
    Refuse,
    /// It joins all the same.
    Join,
    /// It gets an instance of its own: the fingerprint is part of what the service is, beside its name,
    /// and instances of several fingerprints run side by side.
    Separate,
}

pub(crate) struct Fingerprint {
    pub(super) text: String,
    pub(super) mismatch: Mismatch,
}

impl Fingerprint {
    pub(crate) fn new(text: String, mismatch: Mismatch) -> Self {
        Self { text, mismatch }
    }

    pub(crate) fn check(&self, service: &str) -> Result<()> {
        let reason = if self.text.is_empty() {
            "it is empty; leave it out to join whatever runs".to_owned()
        } else if self.text.len() > MAX_LENGTH {
            format!("it is longer than {MAX_LENGTH} bytes; use a digest of it")
        } else {
            return Ok(());
        };
        Err(Error::InvalidSetting {
            service: service.to_owned(),
            setting: "fingerprint",
            reason,
        })
    }

    /// The text, if it tells this service from others of the name.
    pub(crate) fn identity(&self) -> Option<&str> {
        (self.mismatch == Mismatch::Separate).then_some(&self.text)
    }

    pub(super) fn is_of<W: Platform>(&self, current: &ResolvedInstance<W>) -> bool {
        // A separate service has no other: nobody reads its record for that.
        self.mismatch == Mismatch::Separate || current.fingerprint.as_ref() == Some(&self.text)
    }
}
