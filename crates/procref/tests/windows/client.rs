//! A client: a process that does what it is told, line by line.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use procref::{Orphan, ServiceCommand, ServiceHandle, ServiceInfo, SharedService};

use crate::service::{DIR, MANNER};
use crate::stage::PATIENCE;

/// Names the directory, and so says that this process is a client.
const CLIENT: &str = "PROCREF_TEST_CLIENT";
/// `command` unless set: `callbacks`, `keep`.
pub const BY: &str = "PROCREF_TEST_BY";
/// What its answers begin with, among what the test runner prints.
const ANSWER: &str = "answer: ";

pub struct Client {
    child: Child,
    asks: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Client {
    pub fn start(dir: &Path, env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "client::client"])
            .env(CLIENT, dir)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let asks = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (answer, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, text)) = line.split_once(ANSWER) {
                    let _ = answer.send(text.trim_end().to_owned());
                }
            }
        });
        Self {
            child,
            asks,
            answers,
        }
    }

    /// Does not wait for the answer.
    pub fn begin(&mut self, ask: &str) {
        writeln!(self.asks.as_mut().unwrap(), "{ask}").unwrap();
    }

    /// The answer. `None`: the client has died.
    pub fn end(&mut self) -> Option<String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no answer within {PATIENCE:?}"),
        }
    }

    pub fn ask(&mut self, ask: &str) -> String {
        self.begin(ask);
        self.end().expect("the client has died")
    }

    /// The pid of the service that it has got.
    pub fn acquire(&mut self) -> u32 {
        let answer = self.ask("acquire");
        pid(&answer)
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait_dead(&mut self) {
        self.child.wait().unwrap();
    }
}

/// The pid in the answer to an acquire.
pub fn pid(answer: &str) -> u32 {
    answer.parse().unwrap_or_else(|_| panic!("{answer}"))
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service of a test, as all its clients see it.
pub fn service(dir: &Path) -> SharedService {
    let builder = SharedService::builder("a service: of \\ tests")
        .base_dir(dir)
        .start_timeout(Duration::from_secs(60));
    let by = env::var(BY).unwrap_or_default();
    let manner = env::var(MANNER).unwrap_or_default();
    let builder = match by.as_str() {
        "callbacks" | "keep" => {
            let policy = match by.as_str() {
                "keep" => Orphan::Keep,
                _ => Orphan::Stop,
            };
            let dir = dir.to_owned();
            builder
                .orphan(policy)
                .on_first_acquire(move || {
                    let child = program().env(DIR, &dir).env(MANNER, &manner).spawn();
                    async { Ok(ServiceInfo::new(child?.id(), 4711)) }
                })
                .on_last_release(|info| async move {
                    procref::process::stop(info.pid(), 10_000);
                    Ok(())
                })
        }
        _ => {
            let command = ServiceCommand::new(env::current_exe().unwrap())
                .args(["--exact", "--nocapture", "service::service"])
                .env(DIR, dir)
                .env("PORT", "{port}")
                .env(MANNER, manner);
            builder.command(command)
        }
    };
    builder.build().unwrap()
}

fn program() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", "service::service"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Not a test by itself: what a client runs.
#[test]
#[expect(clippy::print_stdout, reason = "its answers")]
fn client() {
    let Ok(dir) = env::var(CLIENT) else {
        return;
    };
    let service = service(Path::new(&dir));
    let mut handles: Vec<ServiceHandle> = Vec::new();
    for ask in std::io::stdin().lines() {
        let answer = perform(&service, &mut handles, &ask.unwrap());
        let answer = answer.unwrap_or_else(|error| format!("error: {error}").replace('\n', " "));
        println!("{ANSWER}{answer}");
    }
    // Its input has ended, as it does when the test has: nothing is waited for.
    std::process::exit(0);
}

fn perform(
    service: &SharedService,
    handles: &mut Vec<ServiceHandle>,
    ask: &str,
) -> procref::Result<String> {
    Ok(match ask {
        "acquire" => {
            let handle = service.acquire_blocking()?;
            let pid = handle.pid().to_string();
            handles.push(handle);
            pid
        }
        "join" => match pollster::block_on(service.try_join())? {
            Some(handle) => {
                let pid = handle.pid().to_string();
                handles.push(handle);
                pid
            }
            None => "nothing".to_owned(),
        },
        "release" => {
            handles.pop().unwrap().release_blocking()?;
            "done".to_owned()
        }
        "drop" => {
            handles.clear();
            "done".to_owned()
        }
        // Begins to acquire, and thinks better of it.
        "cancel" => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let limit = Duration::from_millis(30);
            runtime.block_on(async {
                match tokio::time::timeout(limit, service.acquire()).await {
                    Ok(acquired) => drop(acquired),
                    Err(_) => {}
                }
            });
            "done".to_owned()
        }
        "pin" => {
            handles.last().unwrap().pin()?;
            "done".to_owned()
        }
        "unpin" => service.unpin_blocking()?.to_string(),
        "count" => service.count()?.to_string(),
        "holders" => {
            let status = service.status()?;
            let mut pids: Vec<u32> = status.holders().iter().map(|it| it.pid()).collect();
            pids.sort_unstable();
            format!("{pids:?} and {}", status.unknown_holders())
        }
        other => panic!("no such thing to do: {other}"),
    })
}

impl Client {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}
