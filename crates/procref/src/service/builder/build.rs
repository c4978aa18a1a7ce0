//! Checks the settings of a builder, and builds the service.

use std::sync::Arc;

use super::SharedServiceBuilder;
use crate::engine::config::Orphan;
use crate::engine::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::kernel::{Kernel as _, MAX_LINGER_MS, Native};
use crate::key::ServiceKey;
use crate::name::Name;
use crate::namespace;
use crate::service::SharedService;

impl SharedServiceBuilder {
    fn check_command(&self) -> Result<()> {
        let Some(command) = &self.config.command else {
            return Ok(());
        };
        let callbacks = [
            ("on_first_acquire", self.config.start.is_some()),
            ("on_recover", self.config.recover.is_some()),
            ("on_last_release", self.config.stop.is_some()),
        ];
        if let Some((callback, _)) = callbacks.into_iter().find(|(_, set)| *set) {
            let reason = format!(
                "procref starts and stops it, so `{callback}` is never called (remove one of them)"
            );
            return self.refused("command", reason);
        }
        if self.config.orphan == Orphan::Keep {
            let reason = "the supervisor of a command stops it after its last client, so `Orphan::Keep` is not possible \
                          (pin the service to keep it)";
            return self.refused("orphan", reason);
        }
        command.check(&self.name)
    }

    fn refused<T>(&self, setting: &'static str, reason: impl Into<String>) -> Result<T> {
        Err(Error::InvalidSetting {
            service: self.name.clone(),
            setting,
            reason: reason.into(),
        })
    }

    fn checked_linger(&self) -> Result<u32> {
        let refused = |reason: &str| self.refused("linger", reason);
        if self.linger.is_zero() {
            return Ok(0);
        }
        if !Native::NEEDS_SUPERVISOR {
            return refused(
                "on Windows the service ends with its last client, and no process could let it linger (hold a handle in \
                 another process, or pin the service)",
            );
        }
        if self.config.orphan == Orphan::Keep {
            return refused(
                "with `Orphan::Keep` there is no supervisor that could stop the service afterwards",
            );
        }
        if self.config.stop.is_some() {
            return refused(
                "when the linger time is over, no client is left to call `on_last_release` (remove one of them)",
            );
        }
        match u32::try_from(self.linger.as_millis()) {
            // A time of less than a millisecond must not become zero.
            Ok(milliseconds) if milliseconds <= MAX_LINGER_MS => Ok(milliseconds.max(1)),
            _ => refused("it is longer than twelve days"),
        }
    }

    /// Checks the name and the settings as [`build`](Self::build) does, without reading or creating the runtime
    /// directory.
    ///
    /// ```
    /// use procref::{Ready, ServiceCommand, SharedService};
    ///
    /// let server = ServiceCommand::new("my-server").ready(Ready::log("ready ["));
    /// let error = SharedService::builder("server").command(server).check().unwrap_err();
    /// assert!(error.to_string().contains("invalid ready"));
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidName`], [`Error::InvalidSetting`]: see [`build`](Self::build).
    pub fn check(&self) -> Result<()> {
        Name::new(&self.name)?;
        self.checked_linger()?;
        self.check_command()?;
        let fingerprint = self.config.fingerprint.as_ref();
        fingerprint.map_or(Ok(()), |it| it.check(&self.name))
    }

    /// Checks the name and the settings, creates the runtime directory if it is missing, and returns the service.
    /// Starts nothing, and creates no kernel object.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidName`]: the name is empty, longer than 255 bytes, or contains a NUL.
    /// - [`Error::InvalidSetting`]: [`linger`](Self::linger) is too long, or cannot be used with the other settings;
    ///   the [`fingerprint`](Self::fingerprint) is empty or too long; [`command`](Self::command) has an invalid
    ///   setting, or cannot be used with the other settings.
    /// - [`Error::RuntimeDir`]: the directory cannot be created or is not safe to use, or the directory of the
    ///   [`project`](Self::project) does not exist.
    /// - [`Error::Proc`], [`Error::Namespaces`]: this process cannot share services.
    pub fn build(mut self) -> Result<SharedService> {
        self.check()?;
        let name = Name::new(&self.name)?;
        self.config.linger_ms = self.checked_linger()?;
        let fingerprint = self.config.fingerprint.as_ref();
        let namespace = namespace::open(self.base_dir.as_deref(), self.project.as_deref())?;
        let mut key = ServiceKey::new(namespace, name);
        if let Some(fingerprint) = fingerprint.and_then(Fingerprint::identity) {
            key = key.separated(fingerprint);
        }
        Ok(SharedService::new(key, Arc::new(self.config)))
    }
}
