//! Replies for the results of the library.

use std::error::Error as _;

use procref_testkit::protocol::{Failure, Reply};

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
        debug: format!("{error:?}"),
    })
}

/// The reply for a result, where `reply` converts the value.
pub fn result<T>(result: procref::Result<T>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match result {
        Ok(value) => reply(value),
        Err(failure) => error(&failure),
    }
}
