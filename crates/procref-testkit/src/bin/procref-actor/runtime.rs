//! Every way a program may drive a future.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use procref_testkit::protocol::{Event, Via};
use tokio::runtime::{Builder, Runtime};

use crate::gate::Gate;
use crate::stage::Voice;

/// What answers [`procref_testkit::protocol::Gate::Tick`] beside a future.
pub struct Ticking {
    pub gate: Arc<Gate>,
    pub voice: Arc<Voice>,
}

/// The actor's own multi-threaded runtime. Without any driver: procref must
/// not need one.
pub fn tokio_multi() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .expect("a tokio runtime")
    })
}

/// A single-threaded one.
pub fn tokio_current() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a tokio runtime")
}

/// Runs `future` to its end. A panic in it is passed on.
pub fn drive<T: Send + 'static>(
    via: Via,
    ticking: Option<Ticking>,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    match via {
        Via::TokioMulti => tokio_multi()
            .block_on(tokio_multi().spawn(future))
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
        Via::TokioCurrent => {
            let runtime = tokio_current();
            if let Some(Ticking { gate, voice }) = ticking {
                runtime.spawn(async move {
                    loop {
                        gate.pass().await;
                        voice.tell(Event::Ticked);
                    }
                });
            }
            runtime.block_on(future)
        }
        Via::Smol => smol::block_on(smol::spawn(future)),
        Via::Pollster | Via::Blocking => pollster::block_on(future),
    }
}
