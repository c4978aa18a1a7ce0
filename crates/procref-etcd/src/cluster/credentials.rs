//! The credentials for a cluster, as the client of etcd takes them.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use etcd_client::ConnectOptions;
use rustix::fs::{Mode, OFlags};

use super::Cluster;
use crate::error::{Error, Result};

/// The variable with the password.
pub const PASSWORD: &str = "PROCREF_CLUSTER_PASSWORD";

/// No password or certificate is longer.
const LONGEST: u64 = 1 << 20;

impl Cluster {
    /// Reads the password and the files of certificates.
    ///
    /// # Errors
    /// If a file cannot be read, if another user may read the file of the password or of the key, or if there is a user
    /// without a password.
    pub fn connect_options(&self) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new().with_auto_token_refresh(true);
        if let Some(user) = &self.user {
            options = options.with_user(user, self.password(user)?);
        }
        #[cfg(feature = "tls")]
        if self.tls {
            options = options.with_tls(self.tls_options()?);
        }
        Ok(options)
    }

    pub(super) fn password(&self, user: &str) -> Result<String> {
        let Some(file) = &self.password_file else {
            return env::var(PASSWORD).map_err(|cause| {
                Error::new(format!(
                    "read the password of user `{user}` of the cluster: {PASSWORD}: {cause} (set the variable, or name a \
                     file with ?password-file=)"
                ))
            });
        };
        let bytes = read("password", file, true)?;
        let text =
            String::from_utf8(bytes).map_err(|_| failed("password", file, "it is not UTF-8"))?;
        // An editor ends the line, and a password has no line ends.
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    #[cfg(feature = "tls")]
    fn tls_options(&self) -> Result<etcd_client::TlsOptions> {
        use etcd_client::{Certificate, Identity, TlsOptions};

        let mut options = TlsOptions::new();
        options = match &self.ca {
            Some(ca) => options.ca_certificate(Certificate::from_pem(read_pem("ca", ca, false)?)),
            None => options.with_enabled_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let (cert, key) = (read_pem("cert", cert, false)?, read_pem("key", key, true)?);
            options = options.identity(Identity::from_pem(cert, key));
        }
        Ok(options)
    }
}

#[cfg(feature = "tls")]
fn read_pem(what: &str, path: &Path, secret: bool) -> Result<Vec<u8>> {
    let bytes = read(what, path, secret)?;
    match bytes.windows(10).any(|bytes| bytes == b"-----BEGIN") {
        true => Ok(bytes),
        false => Err(failed(
            what,
            path,
            "it is not a PEM file, which has a line that begins with -----BEGIN",
        )),
    }
}

/// Reads a file. A file with a secret must be readable only by its owner, who is this user or root.
fn read(what: &str, path: &Path, secret: bool) -> Result<Vec<u8>> {
    let open = || -> std::io::Result<File> {
        // Without O_NONBLOCK, opening a named pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
    };
    let file = open().map_err(|cause| failed(what, path, &cause.to_string()))?;
    let meta = file
        .metadata()
        .map_err(|cause| failed(what, path, &cause.to_string()))?;
    if !meta.is_file() {
        return Err(failed(what, path, "it is not a regular file"));
    }
    if secret {
        let user = rustix::process::geteuid().as_raw();
        if meta.uid() != user && meta.uid() != 0 {
            return Err(failed(
                what,
                path,
                &format!("it belongs to user {}", meta.uid()),
            ));
        }
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o777;
            let path = path.display();
            return Err(Error::new(format!(
                "read the {what} of the cluster from {path}: its mode is {mode:o}, so other users have access (run `chmod \
                 600 {path}`)"
            )));
        }
    }
    let mut bytes = Vec::new();
    match file.take(LONGEST + 1).read_to_end(&mut bytes) {
        Ok(length) if length as u64 <= LONGEST => Ok(bytes),
        Ok(_) => Err(failed(what, path, "it is longer than 1 MiB")),
        Err(cause) => Err(failed(what, path, &cause.to_string())),
    }
}

fn failed(what: &str, path: &Path, cause: &str) -> Error {
    Error::new(format!(
        "read the {what} of the cluster from {}: {cause}",
        path.display()
    ))
}
