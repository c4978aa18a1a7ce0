//! Every context in which a handle can be dropped.

use std::cell::RefCell;

use procref::ServiceHandle;
use procref_testkit::protocol::DropContext;

use crate::runtime::{tokio_current, tokio_multi};

thread_local! {
    static HANDLE: RefCell<Option<ServiceHandle>> = const { RefCell::new(None) };
}

/// Drops `handle` in `context`. Returns after the drop.
pub fn drop_in(context: DropContext, handle: ServiceHandle) {
    match context {
        DropContext::Thread => drop(handle),
        DropContext::TokioMulti => tokio_multi()
            .block_on(tokio_multi().spawn(async move { drop(handle) }))
            .expect("the task does not panic"),
        DropContext::TokioCurrent => tokio_current().block_on(async move { drop(handle) }),
        DropContext::TokioLocal => {
            let local = tokio::task::LocalSet::new();
            let task = local.spawn_local(async move { drop(handle) });
            local
                .block_on(&tokio_current(), task)
                .expect("the task does not panic");
        }
        DropContext::TokioBlockingPool => {
            let runtime = tokio_current();
            let task = runtime.spawn_blocking(move || drop(handle));
            runtime.block_on(task).expect("the task does not panic");
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
                panic!("this context unwinds");
            });
            let result: Result<(), _> = tokio_multi().block_on(task);
            assert!(result.is_err_and(|error| error.is_panic()));
        }
        DropContext::Smol => smol::block_on(smol::spawn(async move { drop(handle) })),
        DropContext::Pollster => pollster::block_on(async move { drop(handle) }),
        DropContext::Unwinding => {
            let thread = std::thread::spawn(move || {
                let _handle = handle;
                panic!("this context unwinds");
            });
            assert!(thread.join().is_err());
        }
        DropContext::ThreadLocal => {
            let thread = std::thread::spawn(move || HANDLE.set(Some(handle)));
            thread.join().expect("the thread does not panic");
        }
    }
}
