//! Replies for the results of the library.

use std::error::Error as _;

use procref_testkit::protocol::{Failure, Reply, Variant};

/// The reply for an error.
pub fn error(error: &procref::Error) -> Reply {
    let mut sources = Vec::new();
    let mut source = error.source();
    while let Some(error) = source {
        sources.push(error.to_string());
        source = error.source();
    }
    Reply::Failed(Failure {
        text: error.to_string(),
        sources,
        variant: match error {
            procref::Error::Fingerprint { .. } => Some(Variant::Fingerprint),
            procref::Error::NoReference { .. } => Some(Variant::NoReference),
            _ => None,
        },
    })
}

/// The reply for a result, where `reply` converts the value.
pub fn result<T>(result: procref::Result<T>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match result {
        Ok(value) => reply(value),
        Err(failure) => error(&failure),
    }
}
