//! A callback that acquires its own service gets an error at once, because it would wait for
//! itself.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use procref::{Error, Ready, ServiceCommand, ServiceInfo, SharedService, SharedServiceBuilder};

const NAME: &str = "web";

/// The way in which a callback acquires its own service.
#[derive(Clone, Copy, Debug)]
enum Call {
    Awaiting,
    Blocking,
}

/// The error text that the callback's own acquire returned.
type Answer = Arc<Mutex<Option<String>>>;

/// Builds another value of the same service, as a callback would use it.
fn own_service(dir: &Path) -> SharedService {
    SharedService::builder(NAME)
        .base_dir(dir)
        .build()
        .expect("build")
}

async fn acquire_in_callback(service: Arc<SharedService>, call: Call, answer: Answer) {
    let acquired = match call {
        Call::Awaiting => service.acquire().await,
        Call::Blocking => service.acquire_blocking(),
    };
    let message = match acquired {
        Err(error @ Error::Recursion { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(handle) => panic!("pid {}", handle.pid()),
    };
    *answer.lock().expect("no thread has panicked") = Some(message);
}

/// Acquires the service as a callback would, and then returns `value`.
fn acquire_then<T>(
    service: &Arc<SharedService>,
    call: Call,
    answer: &Answer,
    value: T,
) -> impl Future<Output = T> + use<T> {
    let acquiring = acquire_in_callback(Arc::clone(service), call, Arc::clone(answer));
    async move {
        acquiring.await;
        value
    }
}

fn hosted() -> ServiceInfo {
    ServiceInfo::with_pid(std::process::id())
}

type Configure = fn(SharedServiceBuilder, Arc<SharedService>, Call, Answer) -> SharedServiceBuilder;

const CALLBACKS: [(&str, Configure); 6] = [
    ("on_first_acquire", |builder, own_service, call, answer| {
        builder.on_first_acquire(move || acquire_then(&own_service, call, &answer, Ok(hosted())))
    }),
    ("on_ready", |builder, own_service, call, answer| {
        builder
            .on_first_acquire(|| async { Ok(hosted()) })
            .on_ready(move |_| acquire_then(&own_service, call, &answer, Ok(())))
    }),
    ("on_health_check", |builder, own_service, call, answer| {
        builder
            .on_first_acquire(|| async { Ok(hosted()) })
            .on_health_check(move |_| acquire_then(&own_service, call, &answer, true))
    }),
    ("on_last_release", |builder, own_service, call, answer| {
        builder
            .on_first_acquire(|| async { Ok(hosted()) })
            .on_last_release(move |_| acquire_then(&own_service, call, &answer, Ok(())))
    }),
    ("Ready::callback", |builder, own_service, call, answer| {
        let ready =
            Ready::callback(move |_: &ServiceInfo| acquire_then(&own_service, call, &answer, true));
        builder.command(ServiceCommand::new("sleep").arg("100").ready(ready))
    }),
    (
        "on_ready of a command",
        |builder, own_service, call, answer| {
            let command = ServiceCommand::new("sleep").arg("100");
            builder
                .command(command.ready(Ready::at_once()))
                .on_ready(move |_| acquire_then(&own_service, call, &answer, Ok(())))
        },
    ),
];

#[test]
fn callback_that_acquires_its_own_service_gets_an_error_at_once() {
    for (callback, configure) in CALLBACKS {
        for call in [Call::Awaiting, Call::Blocking] {
            let dir = tempfile::tempdir().expect("create a directory");
            let (own_service, answer) = (Arc::new(own_service(dir.path())), Answer::default());
            let builder = SharedService::builder(NAME).base_dir(dir.path());
            let service = configure(builder, own_service, call, Arc::clone(&answer));
            let service = service.build().expect("build");
            let handle = match call {
                Call::Awaiting => pollster::block_on(service.acquire()),
                Call::Blocking => service.acquire_blocking(),
            };
            let handle = handle.unwrap_or_else(|error| panic!("{callback}, {call:?}: {error}"));
            handle.release_blocking().expect("release");
            let message = answer.lock().expect("no thread has panicked").take();
            let message = message.unwrap_or_else(|| panic!("{callback} was not called"));
            assert!(
                message.contains("would wait for itself"),
                "{callback}: {message}"
            );
            assert!(
                service
                    .wait_stopped_blocking(std::time::Duration::from_secs(30))
                    .expect("wait")
            );
        }
    }
}

/// Only the callback gets the error. Other threads of the process wait for the start.
#[test]
fn other_thread_of_the_starting_process_waits_for_the_start() {
    let dir = tempfile::tempdir().expect("create a directory");
    let joined = Arc::new(Mutex::new(None));
    let (own_service, result) = (Arc::new(own_service(dir.path())), Arc::clone(&joined));
    let service = SharedService::builder(NAME)
        .base_dir(dir.path())
        .on_first_acquire(move || {
            let (own_service, result) = (Arc::clone(&own_service), Arc::clone(&result));
            async move {
                let other = std::thread::spawn(move || {
                    own_service.acquire_blocking().map(|handle| handle.pid())
                });
                *result.lock().expect("no thread has panicked") = Some(other);
                Ok(hosted())
            }
        })
        .build()
        .expect("build");
    let handle = service.acquire_blocking().expect("acquire");
    let other = joined
        .lock()
        .expect("no thread has panicked")
        .take()
        .expect("the callback was called");
    assert_eq!(
        other
            .join()
            .expect("no thread has panicked")
            .expect("acquire"),
        std::process::id()
    );
    handle.release_blocking().expect("release");
}
