//! The example `fenced_store` with a real takeover: a host is frozen, another one starts the service, and the first thaws.

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use common::Cluster;
use common::host::{Host, LIMIT, children};
use rustix::process::{Pid, Signal, kill_process};

/// Returns the path of the example, which cargo builds beside the directory of this program.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().unwrap().parent().unwrap();
    let path = path.join("examples/fenced_store");
    assert!(
        path.exists(),
        "{path:?}: build it with `cargo build --examples`"
    );
    path
}

/// The store, and the lines that it prints.
struct Store {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Store {
    fn start() -> Self {
        let mut child = Command::new(example())
            .args(["serve", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let _ = stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line));
        });
        Self { child, lines }
    }

    /// Returns the rest of the next line, which must begin with this word.
    fn expect(&self, word: &str) -> String {
        let line = self.lines.recv_timeout(LIMIT).expect(word);
        let rest = line.strip_prefix(word);
        rest.unwrap_or_else(|| panic!("{line} instead of {word}"))
            .to_owned()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        let pid = Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fenced_store_refuses_the_writer_of_a_host_that_thaws() {
    let cluster = Cluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| Host::new(name, &dir.path().join("log")));
    let store = Store::start();
    let address = store.expect("listening: ");
    let script = format!("exec '{}' write {address}", example().display());
    let url = cluster.url("?ttl=6s");

    let mut first = a.start(&url, &[], &script);
    let old = first.ready().expect("a ready link").fence;
    assert!(
        store
            .expect("accepted: token ")
            .starts_with(&format!("{old} "))
    );
    let local = a.service("db@instance").status().unwrap();
    let writer = local.instance().expect("a running writer").pid();
    let supervisor = local.supervisor().expect("a supervisor");
    // The link first: it must not see that the others do not run.
    let host = [
        &[first.pid()][..],
        &children(first.pid()),
        &[supervisor, writer],
    ]
    .concat();
    signal(&host, Signal::STOP);

    let (second, new) = loop {
        let mut link = b.start(&url, &[], &script);
        match link.ready() {
            Some(ready) if ready.host == "b" => break (link, ready.fence),
            // Until the lease of the frozen host ends, a link joins its instance, and then reports its end.
            _ => assert_eq!(link.wait().0.code(), Some(3)),
        }
    };
    assert!(new > old);
    assert!(
        store
            .expect("accepted: token ")
            .starts_with(&format!("{new} "))
    );

    // The writer thaws before the fuse and the supervisor, which would stop it. The store must not rely on them.
    signal(&[writer], Signal::CONT);
    let refused = store.expect("refused: ");
    assert!(
        refused.ends_with(&format!("with token {old}, which is older than {new}")),
        "{refused}"
    );
    signal(&host[..host.len() - 1], Signal::CONT);
    assert_ne!(first.wait().0.code(), Some(0));
    a.wait_stopped();
    second.stop();
    b.wait_stopped();
}
