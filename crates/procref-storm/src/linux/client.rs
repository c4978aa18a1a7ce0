//! A client: a process that lives the life that the seed has for it.

use std::ffi::CString;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use procref::{CrashSite, ServiceHandle, Services, SharedService};
use procref_testkit::observe::{self, Identity};
use procref_testkit::process::{Forked, exit_at_once, fork, kill_self};
use procref_testkit::query;
use serde::{Deserialize, Serialize};

use crate::linux::callbacks::Script;
use crate::linux::service::{Event, PORT_LOST, Room, Site, What};
use crate::linux::workload::{self, Doom, End, Life, Start, Step, Via};

/// More handles than that are not of interest.
const HANDLES: usize = 3;

/// What a client is told at its birth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub seed: u64,
    /// The number of its service.
    pub number: usize,
    pub site: Site,
    pub slot: usize,
    pub nth: u64,
    /// Of a hundred, so many kill themselves.
    pub doomed: u32,
    pub guardian: Identity,
    /// Where it is to write what procref traces.
    pub trace: Option<PathBuf>,
}

/// Tells on the standard output.
pub struct Voice {
    number: usize,
    who: OnceLock<Identity>,
}

impl Voice {
    fn new(number: usize) -> Self {
        Self {
            number,
            who: OnceLock::new(),
        }
    }

    pub fn tell(&self, what: What) {
        let who = *self.who.get_or_init(Identity::own);
        self.tell_as(who, what);
    }

    /// In one write, which a pipe does not tear apart.
    fn tell_as(&self, who: Identity, mut what: What) {
        const MOST: usize = 1500;
        if let What::Failed { error, .. } | What::Wrong(error) = &mut what {
            let end = error
                .char_indices()
                .nth(MOST)
                .map_or(error.len(), |(at, _)| at);
            error.truncate(end);
        }
        let event = Event::now(who, self.number, what);
        let mut line = serde_json::to_string(&event).expect("plain data");
        line.push('\n');
        if rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).is_err() {
            // The storm is over.
            exit_at_once(1);
        }
    }
}

struct Held {
    handle: ServiceHandle,
    since: u64,
}

struct Client {
    orders: Orders,
    voice: Arc<Voice>,
    script: Arc<Script>,
    service: SharedService,
    failing: Option<SharedService>,
    handles: Vec<Held>,
    /// A supervisor or a service that it starts kills itself, so that its starts fail.
    frail: bool,
    /// How many there were in the beginning.
    threads: usize,
}

impl Orders {
    pub fn life(&self) -> Life {
        workload::life(self.seed, self.site.kind, self.slot, self.nth, self.doomed)
    }
}

/// Its exit code.
pub fn main(orders: Orders) -> i32 {
    let name = CString::new(orders.site.clients_name()).unwrap_or_default();
    let _ = rustix::thread::set_name(&name);
    observe::exit_with_guardian(orders.guardian);
    if let Some(path) = &orders.trace {
        trace(path);
    }
    // Told to, so it need not be shown.
    std::panic::set_hook(Box::new(|_| {}));
    let Life {
        settings,
        steps,
        end,
        doom,
    } = orders.life();
    let voice = Arc::new(Voice::new(orders.number));
    let script = Script::new(
        orders.site.clone(),
        settings,
        orders.guardian,
        Arc::clone(&voice),
    );
    let (service, failing) = match script.build() {
        Ok(built) => built,
        Err(error) => {
            voice.tell(What::Wrong(format!("build: {error:?}")));
            return 1;
        }
    };
    match doom {
        Some(Doom::At(point, survived)) => procref::die_at(point.name, survived),
        Some(Doom::After(time)) => {
            std::thread::spawn(move || {
                std::thread::sleep(time);
                kill_self();
            });
        }
        None => {}
    }
    let mut client = Client {
        orders,
        voice,
        script,
        service,
        failing,
        handles: Vec::new(),
        threads: Identity::own().threads(),
        frail: matches!(doom, Some(Doom::At(point, _)) if point.site != CrashSite::Client),
    };
    for step in steps {
        if client.orders.site.over().exists() {
            break;
        }
        client.take(step);
    }
    client.end(end);
    0
}

fn trace(path: &PathBuf) {
    let file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path);
    if let Ok(file) = file {
        tracing_subscriber::fmt()
            .with_env_filter("procref=trace")
            .with_ansi(false)
            .with_writer(Arc::new(file))
            .init();
    }
}

fn drive<T>(via: Via, future: impl Future<Output = T>) -> T {
    match via {
        Via::Smol => smol::block_on(future),
        Via::Tokio => tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future),
        Via::Blocking => pollster::block_on(future),
    }
}

/// `None` if the time is over first; the future is dropped by then.
fn cancelled<T>(after: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(after).await;
        None
    };
    smol::block_on(smol::future::or(async { Some(future.await) }, late))
}

/// The first answer, of ten times a millisecond apart.
fn before_long<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..10).find_map(|_| {
        let seen = look();
        if seen.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        seen
    })
}

fn ask(pid: u32, port: u16) -> Result<(), String> {
    match query::service(port) {
        Ok((who, true)) if who == pid => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

impl Client {
    fn take(&mut self, step: Step) {
        match step {
            Step::Pause(time) => return std::thread::sleep(time),
            Step::Hold(time) => std::thread::sleep(time),
            _ => {}
        }
        let room = match Room::enter(&self.orders.site) {
            Ok(room) => room,
            // The storm is over.
            Err(_) => exit_at_once(1),
        };
        self.voice.tell(What::Step(format!("{step:?}")));
        match step {
            Step::Fork(time) => return self.fork(time, room),
            Step::Exec(time) => return self.exec(time, room),
            _ => self.perform(step),
        }
        drop(room);
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Acquire(via, start) => {
                if self.handles.len() < HANDLES {
                    self.acquire(via, start);
                }
            }
            Step::TryJoin => self.try_join(),
            Step::AcquireCancelled(after) => {
                let since = observe::now_ns();
                self.script.expect(Start::Serve);
                let acquired = cancelled(after, self.service.acquire());
                if let Some(acquired) = acquired {
                    self.keep(since, acquired);
                }
            }
            Step::Crowd(count) => self.crowd(count),
            Step::Hold(_) => self.check(),
            Step::Drop => {
                self.handles.pop();
                self.tell_free();
            }
            Step::DropAll => {
                self.handles.clear();
                self.tell_free();
            }
            Step::Release(via) => self.release(via),
            Step::ReleaseCancelled(after) => {
                if let Some(held) = self.handles.pop() {
                    let since = observe::now_ns();
                    if let Some(Err(error)) = cancelled(after, held.handle.release()) {
                        self.failed(since, "release", &error);
                    }
                    self.tell_free();
                }
            }
            Step::Pin => self.pin(),
            Step::Unpin => {
                let since = observe::now_ns();
                match self.service.unpin_blocking() {
                    Ok(_) => self.voice.tell(What::Unpinned),
                    Err(error) => self.failed(since, "unpin", &error),
                }
            }
            Step::Status => self.look(),
            Step::Gc => self.collect(),
            Step::Pause(_) | Step::Fork(_) | Step::Exec(_) => {}
        }
    }

    fn failed(&self, since: u64, what: &str, error: &procref::Error) {
        let unhealthy = matches!(error, procref::Error::Unhealthy { .. });
        let port = match unhealthy && self.script.has_met_stranger() {
            true => PORT_LOST,
            false => "",
        };
        self.voice.tell(What::Failed {
            since,
            meant: self.script.has_failed() || (self.frail && what == "acquire"),
            error: format!("{what}: {error}{port}"),
        });
    }

    /// After handles were let go of.
    fn tell_free(&self) {
        if self.handles.is_empty() {
            self.voice.tell(What::Free);
        }
    }

    fn keep(&mut self, since: u64, acquired: procref::Result<ServiceHandle>) {
        match acquired {
            Ok(handle) => {
                let pid = handle.pid();
                let said = ask(pid, handle.port());
                self.handles.push(Held { handle, since });
                self.voice.tell(What::Acquired { since, pid, said });
            }
            Err(error) => self.failed(since, "acquire", &error),
        }
    }

    fn acquire(&mut self, via: Via, start: Start) {
        let since = observe::now_ns();
        self.script.expect(start);
        // A program that fails is as good as a callback that does.
        let (service, meant) = match (&self.failing, start) {
            (Some(failing), Start::Fail | Start::Panic) => (failing, true),
            _ => (&self.service, false),
        };
        let acquired = catch_unwind(AssertUnwindSafe(|| match via {
            Via::Blocking => service.acquire_blocking(),
            _ => drive(via, service.acquire()),
        }));
        match acquired {
            Ok(Err(error)) if meant => self.voice.tell(What::Failed {
                since,
                meant,
                error: format!("acquire: {error}"),
            }),
            Ok(acquired) => self.keep(since, acquired),
            Err(_) => self.voice.tell(What::Failed {
                since,
                meant: self.script.has_failed(),
                error: "acquire: panicked".to_owned(),
            }),
        }
    }

    fn try_join(&mut self) {
        let since = observe::now_ns();
        match smol::block_on(self.service.try_join()) {
            Ok(Some(handle)) => self.keep(since, Ok(handle)),
            Ok(None) => {}
            Err(error) => self.failed(since, "try_join", &error),
        }
    }

    fn crowd(&mut self, count: u32) {
        let since = observe::now_ns();
        self.script.expect(Start::Serve);
        let service = &self.service;
        let acquired: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|_| scope.spawn(|| service.acquire_blocking()))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|joined| joined.expect("no panic")).collect()
        });
        let before = self.handles.len();
        for acquired in acquired {
            self.keep(since, acquired);
        }
        let handles = self.handles.split_off(before);
        std::thread::scope(|scope| {
            for held in handles {
                scope.spawn(move || drop(held));
            }
        });
        self.tell_free();
    }

    fn check(&self) {
        for Held { handle, since } in &self.handles {
            let (since, pid) = (*since, handle.pid());
            let said = ask(pid, handle.port());
            self.voice.tell(What::Checked { since, pid, said });
        }
    }

    fn release(&mut self, via: Via) {
        let Some(held) = self.handles.pop() else {
            return;
        };
        let since = observe::now_ns();
        let released = match via {
            Via::Blocking => held.handle.release_blocking(),
            _ => drive(via, held.handle.release()),
        };
        if let Err(error) = released {
            self.failed(since, "release", &error);
        }
        self.tell_free();
    }

    fn pin(&self) {
        let Some(held) = self.handles.first() else {
            return;
        };
        let since = observe::now_ns();
        match held.handle.pin() {
            Ok(()) => self.voice.tell(What::Pinned),
            Err(error) => self.failed(since, "pin", &error),
        }
    }

    fn look(&self) {
        let since = observe::now_ns();
        if let Err(error) = self.service.status() {
            self.failed(since, "status", &error);
        }
        let listed = Services::in_dir(self.orders.site.runtime_dir()).and_then(|all| all.list());
        if let Err(error) = listed {
            self.failed(since, "list", &error);
        }
    }

    fn collect(&self) {
        let since = observe::now_ns();
        match Services::in_dir(self.orders.site.runtime_dir()).and_then(|all| all.gc_blocking()) {
            Ok(collected) => {
                for error in collected.failures() {
                    self.failed(since, "gc", error);
                }
            }
            Err(error) => self.failed(since, "gc", &error),
        }
    }

    /// Whether no thread of this process is about to begin or to end, before long.
    ///
    /// The standard library has a lock that a thread takes at its beginning and at its end. Where it is
    /// taken in the moment of a fork, no thread of the child ever begins, and that child waits for one of
    /// procref's with everything in its hands. By the time a thread has its name it is past that.
    fn is_quiet(&self) -> bool {
        before_long(|| self.knows_its_threads().then_some(())).is_some()
    }

    /// Whether a thread finishes what was cancelled.
    ///
    /// A thread gives itself its name, so one that has only just begun does not bear it yet. It is waited
    /// for: to look for the name alone is to overlook it.
    fn is_finishing(&self) -> bool {
        before_long(|| match Identity::own().threads_named("procref") {
            0 => self.knows_its_threads().then_some(false),
            _ => Some(true),
        })
        .unwrap_or(true)
    }

    /// Whether it has no threads but those it had in the beginning, and those that stay once they have come.
    fn knows_its_threads(&self) -> bool {
        let me = Identity::own();
        let staying = ["async-io", "procref-timer"].map(|name| me.threads_named(name));
        me.threads() == self.threads + staying.iter().sum::<usize>()
    }

    fn fork(&mut self, time: Duration, room: Room) {
        if !self.is_quiet() {
            return;
        }
        match fork() {
            Ok(Forked::Child) => {
                drop(room);
                self.live_as_child(time);
                exit_at_once(0);
            }
            Ok(Forked::Parent(_)) => {}
            Err(error) => self.voice.tell(What::Wrong(format!("fork: {error}"))),
        }
    }

    fn live_as_child(&mut self, time: Duration) {
        observe::exit_with_guardian(self.orders.guardian);
        self.script.forget();
        self.handles.clear();
        self.voice = Arc::new(Voice::new(self.orders.number));
        let Ok(room) = Room::enter(&self.orders.site) else {
            return;
        };
        self.voice.tell(What::Forked);
        self.script.expect(Start::Serve);
        let since = observe::now_ns();
        let acquired = self.service.acquire_blocking();
        self.keep(since, acquired);
        drop(room);
        std::thread::sleep(time);
        let Ok(_room) = Room::enter(&self.orders.site) else {
            return;
        };
        self.check();
        self.release(Via::Blocking);
    }

    fn exec(&self, time: Duration, room: Room) {
        self.voice.tell(What::Executing);
        let error = match std::env::current_exe() {
            Ok(program) => Command::new(program)
                .arg("rest")
                .arg(time.as_micros().to_string())
                .arg(self.orders.guardian.to_string())
                // So that it is found as one of the storm's.
                .arg(&self.orders.site.dir)
                .exec(),
            Err(error) => error,
        };
        self.voice.tell(What::Wrong(format!("exec: {error}")));
        drop(room);
    }

    fn end(mut self, end: End) {
        let Ok(room) = Room::enter(&self.orders.site) else {
            return;
        };
        self.voice.tell(What::Step(format!("End::{end:?}")));
        match end {
            End::Drop => self.handles.clear(),
            End::Release => {
                while !self.handles.is_empty() {
                    self.release(Via::Smol);
                }
            }
            End::ExitAtOnce => exit_at_once(0),
        }
        self.tell_free();
        if self.is_finishing() {
            // The thread ends with this process: in the middle, as if it were killed.
            self.voice.tell(What::Unfinished);
        }
        drop(room);
    }
}

/// Another program, which knows nothing of what it holds.
pub fn rest(mut args: impl Iterator<Item = String>) -> ExitCode {
    let time = args.next().and_then(|text| text.parse().ok());
    let guardian = args.next().and_then(|text| text.parse().ok());
    let (Some(time), Some(guardian)) = (time, guardian) else {
        return ExitCode::from(2);
    };
    observe::exit_with_guardian(guardian);
    std::thread::sleep(Duration::from_micros(time));
    ExitCode::SUCCESS
}

/// Somebody who comes once, to clean up.
pub fn visit(orders: Orders, errand: &str) -> io::Result<()> {
    observe::exit_with_guardian(orders.guardian);
    let settings = orders.life().settings;
    let voice = Arc::new(Voice::new(orders.number));
    let script = Script::new(orders.site.clone(), settings, orders.guardian, voice);
    let done = script.build().and_then(|(service, _)| match errand {
        "acquire" => service.acquire_blocking()?.release_blocking(),
        "unpin" => service.unpin_blocking().map(drop),
        _ => {
            let services = Services::in_dir(orders.site.runtime_dir())?;
            match services.gc_blocking()?.failures().first() {
                Some(error) => Err(error.to_string().into()),
                None => Ok(()),
            }
        }
    });
    done.map_err(|error| io::Error::other(error.to_string()))
}
