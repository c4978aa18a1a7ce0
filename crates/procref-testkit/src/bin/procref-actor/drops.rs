//! Every place where a handle may meet its end.

use std::cell::RefCell;

use procref::ServiceHandle;
use procref_testkit::protocol::Place;

use crate::runtime::{tokio_current, tokio_multi};

thread_local! {
    static LAST_WORDS: RefCell<Option<ServiceHandle>> = const { RefCell::new(None) };
}

/// Drops `handle` in `place`, and returns when that is over.
pub fn drop_in(place: Place, handle: ServiceHandle) {
    match place {
        Place::Thread => drop(handle),
        Place::TokioMulti => tokio_multi()
            .block_on(tokio_multi().spawn(async move { drop(handle) }))
            .expect("the task ends well"),
        Place::TokioCurrent => tokio_current().block_on(async move { drop(handle) }),
        Place::TokioLocal => {
            let local = tokio::task::LocalSet::new();
            let task = local.spawn_local(async move { drop(handle) });
            local
                .block_on(&tokio_current(), task)
                .expect("the task ends well");
        }
        Place::TokioBlockingPool => {
            let runtime = tokio_current();
            let task = runtime.spawn_blocking(move || drop(handle));
            runtime.block_on(task).expect("the task ends well");
        }
        Place::TokioShutDown => {
            let runtime = tokio_current();
            runtime.spawn(async move {
                std::future::pending::<()>().await;
                drop(handle);
            });
            drop(runtime);
        }
        Place::TokioUnwinding => {
            let task = tokio_multi().spawn(async move {
                let _handle = handle;
                panic!("told to");
            });
            let end: Result<(), _> = tokio_multi().block_on(task);
            assert!(end.is_err_and(|error| error.is_panic()));
        }
        Place::Smol => smol::block_on(smol::spawn(async move { drop(handle) })),
        Place::Pollster => pollster::block_on(async move { drop(handle) }),
        Place::Unwinding => {
            let thread = std::thread::spawn(move || {
                let _handle = handle;
                panic!("told to");
            });
            assert!(thread.join().is_err());
        }
        Place::ThreadLocal => {
            let thread = std::thread::spawn(move || LAST_WORDS.set(Some(handle)));
            thread.join().expect("the thread ends well");
        }
    }
}
