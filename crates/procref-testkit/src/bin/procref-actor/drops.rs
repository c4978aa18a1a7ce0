//! Every context where a handle may meet its end.

use std::cell::RefCell;

use procref::ServiceHandle;
use procref_testkit::protocol::DropContext;

use crate::runtime::{tokio_current, tokio_multi};

thread_local! {
    static LAST_WORDS: RefCell<Option<ServiceHandle>> = const { RefCell::new(None) };
}

/// Drops `handle` in `context`, and returns when that is over.
pub fn drop_in(context: DropContext, handle: ServiceHandle) {
    match context {
        DropContext::Thread => drop(handle),
        DropContext::TokioMulti => tokio_multi()
            .block_on(tokio_multi().spawn(async move { drop(handle) }))
            .expect("the task ends well"),
        DropContext::TokioCurrent => tokio_current().block_on(async move { drop(handle) }),
        DropContext::TokioLocal => {
            let local = tokio::task::LocalSet::new();
            let task = local.spawn_local(async move { drop(handle) });
            local
                .block_on(&tokio_current(), task)
                .expect("the task ends well");
        }
        DropContext::TokioBlockingPool => {
            let runtime = tokio_current();
            let task = runtime.spawn_blocking(move || drop(handle));
            runtime.block_on(task).expect("the task ends well");
        }
        DropContext::TokioShutDown => {
            let runtime = tokio_current();
            runtime.spawn(async move {
                std::future::pending::<()>().await;
                drop(handle);
            });
            drop(runtime);
        }
        DropContext::TokioUnwinding => {
            let task = tokio_multi().spawn(async move {
                let _handle = handle;
                panic!("told to");
            });
            let end: Result<(), _> = tokio_multi().block_on(task);
            assert!(end.is_err_and(|error| error.is_panic()));
        }
        DropContext::Smol => smol::block_on(smol::spawn(async move { drop(handle) })),
        DropContext::Pollster => pollster::block_on(async move { drop(handle) }),
        DropContext::Unwinding => {
            let thread = std::thread::spawn(move || {
                let _handle = handle;
                panic!("told to");
            });
            assert!(thread.join().is_err());
        }
        DropContext::ThreadLocal => {
            let thread = std::thread::spawn(move || LAST_WORDS.set(Some(handle)));
            thread.join().expect("the thread ends well");
        }
    }
}
