//! The version or configuration of a service that a client requires.

use super::platform::Platform;
use super::resolved_instance::ResolvedInstance;
use crate::error::{Error, Result};

/// The longest fingerprint, in bytes.
const MAX_LENGTH: usize = 4096;

/// The policy of a client whose [fingerprint](crate::SharedServiceBuilder::fingerprint) differs from that of
/// the running instance.
///
/// The default is [`Refuse`](Self::Refuse).
///
/// ```no_run
/// use procref::{Mismatch, SharedService};
///
/// # fn example() -> procref::Result<()> {
/// // A client that must not talk to a server of another version.
/// let editor = SharedService::builder("language-server").fingerprint("2.1", Mismatch::Refuse);
/// // A client that can talk to any version, and starts version 2.1 itself.
/// let viewer = SharedService::builder("language-server").fingerprint("2.1", Mismatch::Join);
/// // Tests of three schemas, each with its own database.
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
    /// Returns [`Error::Fingerprint`], even if the instance has no fingerprint.
    #[default]
    Refuse,
    /// Joins the instance anyway.
    Join,
    /// Uses a separate instance. The fingerprint and the name together identify the service, so instances of
    /// several fingerprints run at the same time.
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
            "it is empty (set no fingerprint to join any instance)".to_owned()
        } else if self.text.len() > MAX_LENGTH {
            format!("it is longer than {MAX_LENGTH} bytes (use a digest instead)")
        } else {
            return Ok(());
        };
        Err(Error::InvalidSetting {
            service: service.to_owned(),
            setting: "fingerprint",
            reason,
        })
    }

    /// Returns the text if it is part of the service's identity.
    pub(crate) fn identity(&self) -> Option<&str> {
        (self.mismatch == Mismatch::Separate).then_some(&self.text)
    }

    pub(super) fn is_of<W: Platform>(&self, current: &ResolvedInstance<W>) -> bool {
        // Every instance of a separate service has this fingerprint, so its record is not read.
        self.mismatch == Mismatch::Separate || current.fingerprint.as_ref() == Some(&self.text)
    }
}
