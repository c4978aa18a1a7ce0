//! A callback that acquires its own service gets an error at once: it would wait for itself.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use procref::{Error, Ready, ServiceCommand, ServiceInfo, SharedService, SharedServiceBuilder};

const NAME: &str = "web";

/// How a callback asks for its service.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Awaiting,
    Blocking,
}

/// What became of the callback's own request.
type Answer = Arc<Mutex<Option<String>>>;

/// Another value of the same service, as a callback would have it.
fn own(dir: &Path) -> SharedService {
    SharedService::builder(NAME)
        .base_dir(dir)
        .build()
        .expect("build")
}

async fn ask(service: Arc<SharedService>, asks: Asks, answer: Answer) {
    let acquired = match asks {
        Asks::Awaiting => service.acquire().await,
        Asks::Blocking => service.acquire_blocking(),
    };
    let told = match acquired {
        Err(error @ Error::Recursion { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(handle) => panic!("pid {}", handle.pid()),
    };
    *answer.lock().expect("no thread has panicked") = Some(told);
}

fn hosted() -> ServiceInfo {
    ServiceInfo::with_pid(std::process::id())
}

type Configure = fn(SharedServiceBuilder, Arc<SharedService>, Asks, Answer) -> SharedServiceBuilder;

const CALLBACKS: [(&str, Configure); 6] = [
    ("on_first_acquire", |builder, own, asks, answer| {
        builder.on_first_acquire(move || {
            let asked = ask(Arc::clone(&own), asks, Arc::clone(&answer));
            async {
                asked.await;
                Ok(hosted())
            }
        })
    }),
    ("on_ready", |builder, own, asks, answer| {
        builder
            .on_first_acquire(|| async { Ok(hosted()) })
            .on_ready(move |_| {
                let asked = ask(Arc::clone(&own), asks, Arc::clone(&answer));
                async {
                    asked.await;
                    Ok(())
                }
            })
    }),
    ("on_health_check", |builder, own, asks, answer| {
        builder
            .on_first_acquire(|| async { Ok(hosted()) })
            .on_health_check(move |_| {
                let asked = ask(Arc::clone(&own), asks, Arc::clone(&answer));
                async {
                    asked.await;
                    true
                }
            })
    }),
    ("on_last_release", |builder, own, asks, answer| {
        builder
            .on_first_acquire(|| async { Ok(hosted()) })
            .on_last_release(move |_| {
                let asked = ask(Arc::clone(&own), asks, Arc::clone(&answer));
                async {
                    asked.await;
                    Ok(())
                }
            })
    }),
    ("Ready::callback", |builder, own, asks, answer| {
        let ready = Ready::callback(move |_: &ServiceInfo| {
            let asked = ask(Arc::clone(&own), asks, Arc::clone(&answer));
            async {
                asked.await;
                true
            }
        });
        builder.command(ServiceCommand::new("sleep").arg("100").ready(ready))
    }),
    ("on_ready of a command", |builder, own, asks, answer| {
        let command = ServiceCommand::new("sleep").arg("100");
        builder
            .command(command.ready(Ready::at_once()))
            .on_ready(move |_| {
                let asked = ask(Arc::clone(&own), asks, Arc::clone(&answer));
                async {
                    asked.await;
                    Ok(())
                }
            })
    }),
];

#[test]
fn callback_that_acquires_its_own_service_gets_an_error_at_once() {
    for (callback, configure) in CALLBACKS {
        for asks in [Asks::Awaiting, Asks::Blocking] {
            let dir = tempfile::tempdir().expect("create a directory");
            let (own, answer) = (Arc::new(own(dir.path())), Answer::default());
            let builder = SharedService::builder(NAME).base_dir(dir.path());
            let service = configure(builder, own, asks, Arc::clone(&answer));
            let service = service.build().expect("build");
            let handle = match asks {
                Asks::Awaiting => pollster::block_on(service.acquire()),
                Asks::Blocking => service.acquire_blocking(),
            };
            let handle = handle.unwrap_or_else(|error| panic!("{callback}, {asks:?}: {error}"));
            handle.release_blocking().expect("release");
            let told = answer.lock().expect("no thread has panicked").take();
            let told = told.unwrap_or_else(|| panic!("{callback} was not called"));
            assert!(told.contains("would wait for itself"), "{callback}: {told}");
            assert!(
                service
                    .wait_stopped_blocking(std::time::Duration::from_secs(30))
                    .expect("wait")
            );
        }
    }
}

/// It is the callback that is refused, and not its process.
#[test]
fn other_thread_of_the_starting_process_waits_for_the_start() {
    let dir = tempfile::tempdir().expect("create a directory");
    let joined = Arc::new(Mutex::new(None));
    let (own, result) = (Arc::new(own(dir.path())), Arc::clone(&joined));
    let service = SharedService::builder(NAME)
        .base_dir(dir.path())
        .on_first_acquire(move || {
            let (own, result) = (Arc::clone(&own), Arc::clone(&result));
            async move {
                let other =
                    std::thread::spawn(move || own.acquire_blocking().map(|handle| handle.pid()));
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
