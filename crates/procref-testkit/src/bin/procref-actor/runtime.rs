//! Every way in which a program can drive a future.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use procref_testkit::protocol::{Event, Via};
use tokio::runtime::{Builder, Runtime};

use crate::gate::Gate;
use crate::reporter::Reporter;

/// A second task that runs at the same time as a future, and reports each pass through
/// [`procref_testkit::protocol::Gate::Tick`].
pub struct Ticker {
    pub gate: Arc<Gate>,
    pub reporter: Arc<Reporter>,
}

/// The actor's multi-threaded runtime. It has no I/O and time drivers, because procref must not need them.
pub fn tokio_multi() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .expect("a tokio runtime")
    })
}

/// A new current-thread runtime, also without drivers.
pub fn tokio_current() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a tokio runtime")
}

/// Runs `future` until it completes. A panic in the future propagates.
pub fn drive<T: Send + 'static>(
    via: Via,
    ticker: Option<Ticker>,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    match via {
        Via::TokioMulti => tokio_multi()
            .block_on(tokio_multi().spawn(future))
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
        Via::TokioCurrent => {
            let runtime = tokio_current();
            if let Some(Ticker { gate, reporter }) = ticker {
                runtime.spawn(async move {
                    loop {
                        gate.pass().await;
                        reporter.report(Event::Ticked);
                    }
                });
            }
            runtime.block_on(future)
        }
        Via::Smol => smol::block_on(smol::spawn(future)),
        Via::Pollster | Via::Blocking => pollster::block_on(future),
    }
}
