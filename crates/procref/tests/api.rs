//! The API of the 0.1 line, signature by signature. Programs that were written for it compile and
//! behave as before.
//!
//! Each function is assigned to a variable with the type that it has in 0.1. A changed signature
//! does not compile then, even if type inference would hide the change from most callers. A
//! function that only accepts more types than before does compile. The services share nothing with
//! other tests, because each has its own runtime directory.

use std::future::{self, Future, Ready as Immediate};
use std::io;
use std::path::PathBuf;

use procref::{
    Error, PlatformRefCounter, RefCounter, Result, ServiceHandle, ServiceInfo, SharedService,
    SharedServiceBuilder, process,
};

/// A method of the builder that sets one option.
type Set<T> = fn(SharedServiceBuilder, T) -> SharedServiceBuilder;

type Started = Immediate<Result<ServiceInfo>>;
type Done = Immediate<Result<()>>;
type Healthy = Immediate<bool>;

fn start() -> Started {
    // The service is hosted by this process, which procref never signals.
    future::ready(Ok(ServiceInfo::new(std::process::id(), 4711)))
}

fn stop(_: ServiceInfo) -> Done {
    future::ready(Ok(()))
}

fn is_well(_: &ServiceInfo) -> Healthy {
    future::ready(true)
}

fn recover(old: ServiceInfo) -> Started {
    future::ready(Ok(old))
}

#[test]
fn service_is_described_and_acquired() -> Result<()> {
    let builder: fn(&str) -> SharedServiceBuilder = SharedService::builder;
    let build: fn(SharedServiceBuilder) -> Result<SharedService> = SharedServiceBuilder::build;
    let count: fn(&SharedService) -> Result<u32> = SharedService::count;
    let name: fn(&SharedService) -> &str = SharedService::name;
    let base_dir: Set<PathBuf> = SharedServiceBuilder::base_dir;
    let _: Set<PathBuf> = SharedServiceBuilder::project;
    let on_first_acquire: Set<fn() -> Started> = SharedServiceBuilder::on_first_acquire;
    let on_last_release: Set<fn(ServiceInfo) -> Done> = SharedServiceBuilder::on_last_release;
    let on_health_check: Set<fn(&ServiceInfo) -> Healthy> = SharedServiceBuilder::on_health_check;
    let on_recover: Set<fn(ServiceInfo) -> Started> = SharedServiceBuilder::on_recover;

    let info: fn(&ServiceHandle) -> &ServiceInfo = ServiceHandle::info;
    let pid: fn(&ServiceHandle) -> u32 = ServiceHandle::pid;
    let port: fn(&ServiceHandle) -> u16 = ServiceHandle::port;

    let dir = tempfile::tempdir()?;
    let mut described = base_dir(builder("api"), dir.path().to_owned());
    described = on_first_acquire(described, start);
    described = on_last_release(described, stop);
    described = on_health_check(described, is_well);
    let service = build(on_recover(described, recover))?;
    assert_eq!(name(&service), "api");
    assert_eq!(count(&service)?, 0);

    let handle = runtime().block_on(service.acquire())?;
    assert_eq!(count(&service)?, 1);
    assert_eq!(pid(&handle), std::process::id());
    assert_eq!(port(&handle), 4711);
    assert_eq!(info(&handle).pid(), pid(&handle));
    drop(handle);
    assert_eq!(count(&service)?, 0);
    Ok(())
}

#[test]
fn callbacks_are_closures_that_capture_and_return_async_blocks() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = String::from("captured");
    let service = SharedService::builder("closures")
        .base_dir(dir.path().to_str().ok_or("the path is not UTF-8")?)
        .on_first_acquire({
            let text = text.clone();
            move || {
                let text = text.clone();
                async move {
                    let mut info = ServiceInfo::new(std::process::id(), 0);
                    info.set_metadata("text", text);
                    Ok(info)
                }
            }
        })
        .on_last_release(|info| async move {
            assert_eq!(info.get_metadata("text"), Some("captured"));
            Ok(())
        })
        .on_health_check(|info: &ServiceInfo| {
            let pid = info.pid();
            async move { process::is_alive(pid) }
        })
        .on_recover(|old: ServiceInfo| async move { Ok(old) })
        .build()?;
    let handle = runtime().block_on(service.acquire())?;
    assert_eq!(handle.info().get_metadata("text"), Some("captured"));
    Ok(())
}

#[test]
fn service_info_returns_its_values() {
    let new: fn(u32, u16) -> ServiceInfo = ServiceInfo::new;
    let with_pid: fn(u32) -> ServiceInfo = ServiceInfo::with_pid;
    let set_metadata: fn(&mut ServiceInfo, String, String) = ServiceInfo::set_metadata;
    let get_metadata: for<'a> fn(&'a ServiceInfo, &str) -> Option<&'a str> =
        ServiceInfo::get_metadata;
    let is_alive: fn(&ServiceInfo) -> bool = ServiceInfo::is_alive;

    let mut info = new(std::process::id(), 80);
    set_metadata(&mut info, "key".to_owned(), "value".to_owned());
    assert_eq!(get_metadata(&info, "key"), Some("value"));
    assert_eq!(get_metadata(&info, "another"), None);
    assert!(is_alive(&info));
    let info = with_pid(std::process::id());
    assert_eq!((info.pid(), info.port()), (std::process::id(), 0));
}

#[test]
fn ref_counter_counts() -> Result<()> {
    let acquire: fn(&PlatformRefCounter) -> Result<u32> = RefCounter::acquire;
    let release: fn(&PlatformRefCounter) -> Result<u32> = RefCounter::release;
    let count: fn(&PlatformRefCounter) -> Result<u32> = RefCounter::count;
    let try_lock: fn(&PlatformRefCounter) -> Result<bool> = RefCounter::try_lock;
    let unlock: fn(&PlatformRefCounter) -> Result<()> = RefCounter::unlock;

    // This function is not called, because it would count in the directory of the user's own
    // services.
    let _: fn(&str) -> Result<PlatformRefCounter> = PlatformRefCounter::new;
    let dir = tempfile::tempdir()?;
    let counter = PlatformRefCounter::in_dir("api", dir.path())?;
    assert_eq!(acquire(&counter)?, 1);
    assert_eq!(acquire(&counter)?, 2);
    assert_eq!(count(&counter)?, 2);
    assert!(try_lock(&counter)?);
    unlock(&counter)?;
    let any: &dyn RefCounter = &counter;
    assert_eq!(any.release()?, 1);
    assert_eq!(release(&counter)?, 0);
    Ok(())
}

#[cfg(unix)]
#[test]
fn processes_are_asked_and_ended_by_pid() {
    let is_alive: fn(u32) -> bool = process::is_alive;
    let stop: fn(u32, u64) = process::stop;
    let ways: [fn(u32); 2] = [process::terminate, process::kill];

    assert!(is_alive(std::process::id()));
    for end in ways {
        let mut child = sleeper();
        end(child.id());
        assert!(!child.wait().expect("wait for the child").success());
    }
    let mut child = sleeper();
    stop(child.id(), 5_000);
    assert!(!is_alive(child.id()));
    child.wait().expect("wait for the child");
}

#[cfg(unix)]
fn sleeper() -> std::process::Child {
    let mut sleep = std::process::Command::new("sleep");
    sleep.arg("600").spawn().expect("start sleep")
}

#[test]
fn errors_convert_and_are_shared() {
    fn is_error<E: std::error::Error + Send + Sync + 'static>() {}
    fn is_shared<T: Send + Sync + 'static>() {}
    fn converts<T: Into<Error>>() {}
    fn is_future<T>(_: &impl Future<Output = Result<T>>) {}

    is_error::<Error>();
    is_shared::<SharedService>();
    is_shared::<ServiceHandle>();
    is_shared::<PlatformRefCounter>();
    converts::<io::Error>();
    converts::<String>();
    converts::<&str>();

    let failed: std::result::Result<(), Error> = Result::Err("a message".into());
    assert!(failed.is_err_and(|error| error.to_string().contains("a message")));
    let dir = tempfile::tempdir().expect("a directory");
    let service = SharedService::builder("not acquired").base_dir(dir.path());
    let service = service.build().expect("a service");
    is_future(&service.acquire());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
