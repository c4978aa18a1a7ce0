//! Each recipe, with the real program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use procref_testkit::deadline;

use crate::support::{
    AS_NOBODY, NOBODY, PROCREF, copy_environment, stdout_of, workspace::Workspace,
};

/// Runs `script` by bash as a client in a project with this recipe, and returns its output. Afterwards, nothing is left.
fn printed(recipe: &str, script: &str) -> String {
    let workspace = Workspace::new();
    // As root, some servers run as another user, which must reach its data.
    let reachable = fs::Permissions::from_mode(0o711);
    fs::set_permissions(workspace.path(""), reachable).expect("change the mode");
    let project = workspace.empty_project("app");
    fs::write(project.dir.join("page.html"), "a page\n").expect("write a page");
    project.output(&["init", "--recipe", recipe]);
    let printed = project.output(&["run", recipe, "--", "bash", "-c", script]);
    // The recipe makes the service linger.
    project.output(&["stop", recipe]);
    workspace.wait_no_leftovers();
    printed
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
    assert_eq!(printed("redis", script), "OK\nvalue\n");
}

#[test]
fn nginx_recipe_serves_a_client() {
    assert_eq!(
        printed("nginx", r#"curl -sf "$NGINX_URL/page.html""#),
        "a page\n"
    );
}

#[test]
fn python_http_recipe_serves_a_client() {
    assert_eq!(
        printed("python-http", r#"curl -sf "$HTTP_URL/page.html""#),
        "a page\n"
    );
}

#[test]
fn postgres_tcp_recipe_serves_a_client_of_its_url() {
    let script = r#"psql "$DATABASE_URL" -Atc 'select 40 + 2'"#;
    assert_eq!(printed("postgres-tcp", script), "42\n");
}

#[test]
fn mariadb_recipe_serves_a_client() {
    let script = "mariadb --no-defaults -u root -Ne 'select 40 + 2'";
    assert_eq!(printed("mariadb", script), "42\n");
}

#[test]
fn memcached_recipe_serves_a_client() {
    let script = r#"
exec 3<>"/dev/tcp/${MEMCACHED_SERVERS/://}"
printf 'set key 0 0 5\r\nvalue\r\nget key\r\nquit\r\n' >&3
cat <&3
"#;
    let answers = "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n";
    assert_eq!(printed("memcached", script), answers);
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
    assert_eq!(printed("nats", script), "INFO MSG subject 1 5 hello\n");
}

#[test]
fn xvfb_recipe_serves_a_client() {
    let script = "xdpyinfo | grep -o 'dimensions: *[0-9x]*'";
    let printed = printed("xvfb", script);
    assert!(printed.trim_end().ends_with("1280x1024"), "{printed}");
}

/// PostgreSQL refuses to run as root, so a test run by root starts it as another user.
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
