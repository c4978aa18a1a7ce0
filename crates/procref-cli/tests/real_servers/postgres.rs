//! PostgreSQL, shared through `procref run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{
    AS_NOBODY, NOBODY, PROCREF, path_text,
    sandbox::{Finished, Sandbox, finish},
};

/// The programs and the directory of a PostgreSQL server.
///
/// PostgreSQL refuses to run as root. If root runs the test, `nobody` owns the directories and runs `procref`.
struct Postgres {
    sandbox: Sandbox,
    bin: PathBuf,
    home: PathBuf,
}

impl Postgres {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let home = sandbox.path("home");
        fs::create_dir(&home).expect("create a directory");
        if rustix::process::geteuid().is_root() {
            let root = home.parent().expect("a parent");
            for dir in [root, &home] {
                std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).expect("chown");
            }
        }
        let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .expect("PostgreSQL is installed, see .ci/run")
            .map(|entry| entry.expect("an entry").path().join("bin"))
            .collect();
        versions.sort();
        let bin = versions.pop().expect("a version of PostgreSQL");
        Self { sandbox, bin, home }
    }

    fn command(&self, program: impl AsRef<Path>, args: &[&str]) -> Command {
        let program = path_text(program.as_ref());
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = self.sandbox.command("setpriv");
            command.args(AS_NOBODY).arg(&program);
            command
        } else {
            self.sandbox.command(&program)
        };
        let path = format!(
            "{}:{}",
            path_text(&self.bin),
            std::env::var("PATH").unwrap_or_default()
        );
        command
            .args(args)
            .env("PATH", path)
            .env("PROCREF_RUNTIME_DIR", self.home.join("run"))
            .current_dir(&self.home);
        command
    }

    fn run(&self, client: &[&str]) -> Command {
        let data = path_text(&self.home.join("data"));
        let start = format!("postgres -D {data} -k {{dir}} -p {{port}} -c listen_addresses=");
        let options = [
            "--ready",
            "cmd:pg_isready -q -h {dir} -p {port}",
            "--stop-signal",
            "INT",
            "--linger",
            "1s",
        ];
        let mut args = vec!["run", "pg", "--start", &start, "--log", "pg.log"];
        args.extend(options);
        args.push("--");
        args.extend(client);
        self.command(PROCREF, &args)
    }

    /// Returns the number of times that the server has logged this text.
    fn logged(&self, text: &str) -> usize {
        let log = fs::read_to_string(self.home.join("pg.log")).unwrap_or_default();
        log.matches(text).count()
    }
}

/// Returns the output of a command that must have succeeded.
#[track_caller]
fn successful(done: &Finished) -> &str {
    assert_eq!(done.code, Some(0), "{done:?}");
    done.out.trim()
}

#[test]
fn clients_and_pgbench_share_one_postgres_server() {
    let postgres = Postgres::new();
    let data = path_text(&postgres.home.join("data"));
    successful(&finish(&mut postgres.command(
        "initdb",
        &["-D", &data, "-U", "postgres", "-A", "trust", "-N"],
    )));

    // All clients start at once, and none of them finds a running server.
    let query = "select pg_backend_pid(), pg_postmaster_start_time(), pg_sleep(0.2)";
    let psql = [
        "psql", "-h", "{dir}", "-p", "{port}", "-U", "postgres", "-Atc", query,
    ];
    let clients: Vec<_> = (0..8)
        .map(|_| {
            postgres
                .run(&psql)
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("execute `procref`")
        })
        .collect();
    let mut starts = Vec::new();
    for client in clients {
        let output = client.wait_with_output().expect("wait for the client");
        assert!(output.status.success(), "{output:?}");
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        starts.push(line.split('|').nth(1).expect("a time").to_owned());
    }
    starts.dedup();
    assert_eq!(starts.len(), 1, "one server for all of them");

    let bench = |args: &[&str]| {
        let mut client = vec!["pgbench", "-h", "{dir}", "-p", "{port}", "-U", "postgres"];
        client.extend(args);
        client.push("postgres");
        finish(&mut postgres.run(&client))
    };
    successful(&bench(&["-i", "-q"]));
    let done = bench(&["-c", "4", "-t", "50"]);
    let report = successful(&done);
    assert!(report.contains("actually processed: 200/200"), "{report}");

    let done = finish(&mut postgres.command(PROCREF, &["wait", "pg", "--stopped"]));
    successful(&done);
    assert!(postgres.logged("database system is shut down") >= 1);
    let (up, down) = (
        "database system is ready to accept",
        "database system is shut down",
    );
    assert_eq!(
        postgres.logged(up),
        postgres.logged(down),
        "every start has an orderly stop"
    );
    assert_eq!(postgres.logged("was not properly shut down"), 0);
    let leftovers: Vec<_> = fs::read_dir(postgres.home.join("run"))
        .expect("list the runtime directory")
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}
