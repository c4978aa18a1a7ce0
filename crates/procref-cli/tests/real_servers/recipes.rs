//! Each recipe, with the real program.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use procref_testkit::deadline;

use crate::served::{Recipe, processes_of, stand_in};
use crate::support::workspace::{Project, Workspace};
use crate::support::{AS_NOBODY, NOBODY, PROCREF, copy_environment, stdout_of};

/// The file that the web servers of the recipes serve.
fn with_page(name: &'static str, file: &str, content: &str) -> Recipe {
    let recipe = Recipe::new(name);
    recipe.write(file, content);
    recipe
}

#[test]
fn init_writes_a_configuration_that_works() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    fs::write(project.dir.join("page.html"), "a page\n").expect("write a page");
    project.output(&["init"]);
    let script = r#"curl -sf "$HTTP_URL/page.html""#;
    assert_eq!(
        project.output(&["run", "web", "--", "sh", "-c", script]),
        "a page\n"
    );
    project.output(&["stop", "web"]);
}

#[test]
fn redis_recipe_serves_a_client() {
    let script = r#"redis-cli -u "$REDIS_URL" set key value; redis-cli -u "$REDIS_URL" get key"#;
    let printed = Recipe::new("redis").printed(script, "Redis is now ready to exit, bye bye");
    assert_eq!(printed, "OK\nvalue\n");
}

#[test]
fn nginx_recipe_serves_a_client() {
    let recipe = with_page("nginx", "page.html", "a page\n");
    // Its log has no line about the stop.
    let printed = recipe.printed(r#"curl -sf "$NGINX_URL/page.html""#, "");
    assert_eq!(printed, "a page\n");
}

#[test]
fn python_http_recipe_serves_a_client() {
    let recipe = with_page("python-http", "page.html", "a page\n");
    // SIGTERM ends it without a line in the log.
    let printed = recipe.printed(r#"curl -sf "$HTTP_URL/page.html""#, "GET / ");
    assert_eq!(printed, "a page\n");
}

#[test]
fn postgres_tcp_recipe_serves_a_client_of_its_url() {
    let script = r#"psql "$DATABASE_URL" -Atc 'select 40 + 2'"#;
    let printed = Recipe::new("postgres-tcp").printed(script, "database system is shut down");
    assert_eq!(printed, "42\n");
}

#[test]
fn mariadb_recipe_serves_a_client() {
    let script = "mariadb --no-defaults -u root -Ne 'select 40 + 2'";
    let printed = Recipe::new("mariadb").printed(script, "Shutdown complete");
    assert_eq!(printed, "42\n");
}

#[test]
fn memcached_recipe_serves_a_client() {
    let script = r#"
exec 3<>"/dev/tcp/${MEMCACHED_SERVERS/://}"
printf 'set key 0 0 5\r\nvalue\r\nget key\r\nquit\r\n' >&3
cat <&3
"#;
    let answers = "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n";
    // memcached prints nothing.
    assert_eq!(Recipe::new("memcached").printed(script, ""), answers);
}

#[test]
fn nats_recipe_serves_a_client() {
    let script = r#"
address=${NATS_URL#nats://}
exec 3<>"/dev/tcp/${address/://}"
read -r info <&3
printf 'CONNECT {"verbose":false}\r\nSUB subject 1\r\nPUB subject 5\r\nhello\r\n' >&3
read -r message <&3
read -r payload <&3
echo "${info%% *} ${message%$'\r'} ${payload%$'\r'}"
"#;
    let printed = Recipe::new("nats").printed(script, "Server Exiting");
    assert_eq!(printed, "INFO MSG subject 1 5 hello\n");
}

#[test]
fn xvfb_recipe_serves_a_client() {
    let script = "xdpyinfo | grep -o 'dimensions: *[0-9x]*'";
    // Xvfb prints nothing.
    let printed = Recipe::new("xvfb").printed(script, "");
    assert!(printed.trim_end().ends_with("1280x1024"), "{printed}");
}

#[test]
fn rabbitmq_recipe_passes_a_message_on() {
    let script = r#"
amqp-declare-queue --url "$AMQP_URL" -q tests
amqp-publish --url "$AMQP_URL" -r tests -b hello
amqp-get --url "$AMQP_URL" -q tests; echo
"#;
    let printed = Recipe::new("rabbitmq").printed(script, "Stopping message store");
    assert_eq!(printed, "tests\nhello\n");
}

#[test]
fn moto_recipe_serves_a_client_of_s3() {
    let recipe = Recipe::new("moto");
    recipe.link_programs(".venv");
    let script = r#".venv/bin/python -c '
import boto3
s3 = boto3.client("s3")
s3.create_bucket(Bucket="bucket")
s3.put_object(Bucket="bucket", Key="key", Body=b"value")
print(s3.get_object(Bucket="bucket", Key="key")["Body"].read().decode())
'"#;
    // SIGTERM ends it without a line in the log.
    assert_eq!(
        recipe.printed(script, "Running on http://127.0.0.1:"),
        "value\n"
    );
}

#[test]
fn maildev_recipe_shows_a_mail() {
    let recipe = Recipe::new("maildev");
    recipe.link_programs("node_modules");
    let script = r#"
printf 'Subject: hello\r\n\r\ntext\r\n' |
    curl -sf "$SMTP_URL" --mail-from a@example.org --mail-rcpt b@example.org -T -
curl -sf "$MAILDEV_URL/email" | grep -o '"subject":"[a-z]*"' | sort -u
"#;
    let printed = recipe.printed(script, "Received shutdown signal");
    assert_eq!(printed, "\"subject\":\"hello\"\n");
}

#[test]
fn vite_recipe_serves_the_project() {
    let recipe = with_page("vite", "index.html", "<!doctype html><p>a page\n");
    recipe.link_programs("node_modules");
    let script = r#"curl -sf "$VITE_URL/" | grep -o 'a page'"#;
    // SIGTERM ends it without a line in the log.
    assert_eq!(recipe.printed(script, "Local:"), "a page\n");
}

#[test]
fn next_recipe_serves_the_project() {
    let page = "export default function Page() { return <p>a page</p>; }\n";
    let mut recipe = with_page("next", "pages/index.jsx", page);
    recipe.write("package.json", "{}\n");
    recipe.link_programs("node_modules");
    recipe.env.push(("NEXT_TELEMETRY_DISABLED", "1".into()));
    let script = r#"curl -sf "$NEXT_URL/" | grep -o 'a page'"#;
    // It shows the cursor of the terminal again when it stops.
    assert_eq!(recipe.printed(script, "\u{1b}[?25h"), "a page\n");
}

/// `ollama.py` stands in for Ollama, which no registry of the tests has: it has the same command line, variable and paths.
#[test]
fn ollama_recipe_serves_a_client_in_every_project() {
    let mut recipe = Recipe::new("ollama");
    recipe.path.push(stand_in(&recipe.workspace, "ollama"));
    let script = r#"ollama list; cd ..; mkdir -p other; cd other; cp ../app/procref.toml .
"$PROCREF" run ollama -- sh -c 'echo "$PROCREF_PID"' | grep -cx "$PROCREF_PID""#;
    recipe.env.push(("PROCREF", PROCREF.into()));
    assert_eq!(recipe.printed(script, "GET /api/version"), "a-model\n1\n");
}

#[test]
fn chromedriver_recipe_answers_and_takes_its_browsers_with_it() {
    let recipe = Recipe::new("chromedriver");
    let script = r#"
curl -sf "$WEBDRIVER_URL/status" | grep -o '"ready":true'
arguments='["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]'
session='{"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": '$arguments'}}}}'
curl -s "$WEBDRIVER_URL/session" -d "$session" | grep -o '"browserName":"[a-z]*"'
"#;
    let client = recipe.hold(script);
    assert_eq!(
        client.printed,
        "\"ready\":true\n\"browserName\":\"chrome\"\n"
    );
    let service = client.service;
    let browsers = processes_of(&recipe.workspace)
        .into_iter()
        .filter(|process| {
            let command = process.command_line();
            command.windows(10).any(|part| part == b"--headless")
        });
    let browsers: Vec<_> = browsers.collect();
    assert_ne!(browsers, [], "the service has a browser");
    // The client has not closed its session.
    client.kill();
    recipe.wait_stopped();
    assert!(!service.is_live() && browsers.iter().all(|browser| !browser.is_live()));
    let client = recipe.hold(":");
    client.leave();
    recipe.wait_stopped();
}

/// If root runs the test, PostgreSQL runs as `postgres`.
#[test]
fn postgres_recipe_serves_the_user_of_the_tests_and_root() {
    let sql = "create table t (n int); insert into t values (41); select n + 1 from t";
    let recipe = Recipe::new("postgres");
    let orderly = "database system is shut down";
    let printed = recipe.printed(&format!("psql -Atqc '{sql}'"), orderly);
    assert_eq!(printed, "42\n");
    let printed = recipe.printed("psql -Atc 'select n from t'", orderly);
    assert_eq!(printed, "41\n");
}

#[test]
fn start_error_names_the_user_of_a_server_that_refuses_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (name, user, code) in [
        ("postgres", "postgres", 125),
        ("mariadb", "mysql", 125),
        ("memcached", "memcache", 125),
    ] {
        let recipe = Recipe::new(name);
        recipe.edit(|text| {
            let lines = text.lines().filter(|line| !line.starts_with("user = "));
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            text.replace(" -u nobody", "")
        });
        let project = Project {
            workspace: &recipe.workspace,
            dir: recipe.dir.clone(),
        };
        let (found, stderr) = project.failure(&["run", name, "--", "true"]);
        assert_eq!(found, code, "{stderr}");
        let hint = format!(
            "\nhint: this server refuses to run as root: add `user = \"{user}\"` to the service in procref.toml"
        );
        let rest = stderr.split_once(&hint).expect(&stderr).1;
        match rest.strip_prefix(", and remove ") {
            Some(rest) => {
                let data = rest.strip_suffix(", which belongs to root\n");
                fs::remove_dir_all(data.expect(rest)).expect("remove the data");
            }
            None => assert_eq!(rest, "\n"),
        }
        // The advice is right.
        recipe.edit(|text| {
            let header = format!("[services.{name}]\n");
            text.replace(&header, &format!("{header}user = \"{user}\"\n"))
        });
        recipe.hold(":").leave();
        recipe.wait_stopped();
    }
}

/// A test run by root runs `procref` as another user here, for whom `user` has no effect.
#[test]
fn postgres_recipe_serves_a_client_and_keeps_its_data() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let root = rustix::process::geteuid().is_root();
    let program = workspace.path("procref");
    // Another program writes the copy. If this process did, a child that another test forks could inherit the
    // descriptor, and a file that is open for writing cannot be executed (`ETXTBSY`).
    let copied = Command::new("cp").arg(PROCREF).arg(&program).status();
    assert!(
        copied.expect("run cp").success(),
        "a copy outside the build directory, which other users may not enter"
    );
    if root {
        change_owner(workspace.path("").as_path(), NOBODY);
    }
    let run = |args: &[&str]| {
        let template = workspace.procref(&project.dir);
        let mut command = match root {
            true => {
                let mut command = Command::new("setpriv");
                command.args(AS_NOBODY).arg(&program);
                command
            }
            false => Command::new(&program),
        };
        copy_environment(&template, &mut command);
        let command = command.args(args).current_dir(&project.dir);
        stdout_of(command.stdin(Stdio::null()))
    };
    run(&["init", "--recipe", "postgres"]);
    let sql = "create table t (n int); insert into t values (41); select n + 1 from t";
    let printed = run(&["run", "postgres", "--", "psql", "-Atq", "-c", sql]);
    assert_eq!(printed, "42\n");
    run(&["stop", "postgres"]);
    let printed = run(&["run", "postgres", "--", "psql", "-Atc", "select n from t"]);
    assert_eq!(printed, "41\n");
    run(&["stop", "postgres"]);
    // The end of the workspace runs `gc` as this user, who cannot use the directory of another one.
    deadline::until_true("gc removes the logs", || {
        run(&["gc", "--all"]);
        workspace.files().is_empty()
    });
}

fn change_owner(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("chown");
    let is_dir = fs::symlink_metadata(path)
        .expect("read the metadata")
        .is_dir();
    for entry in is_dir
        .then(|| fs::read_dir(path).expect("list a directory"))
        .into_iter()
        .flatten()
    {
        change_owner(&entry.expect("an entry").path(), uid);
    }
}
