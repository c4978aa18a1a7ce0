//! The recipes, each with the real program, as their comments say.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::project::{Corner, PROCREF, texts};

/// `procref` in a project that has this recipe.
fn printed(recipe: &str, script: &str) -> String {
    let corner = Corner::new();
    let project = corner.project("app", "");
    fs::remove_file(project.dir.join("procref.toml")).expect("unlink");
    fs::write(project.dir.join("page.html"), "a page\n").expect("a page");
    project.output(&["init", "--recipe", recipe]);
    let printed = project.output(&["run", recipe, "--", "sh", "-c", script]);
    // Kept warm by the recipe: a test need not wait.
    project.output(&["stop", recipe]);
    printed
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
fn recipes_work_together_in_one_file() {
    let corner = Corner::new();
    let project = corner.project("app", "");
    fs::remove_file(project.dir.join("procref.toml")).expect("unlink");
    let mut args = vec!["init"];
    for recipe in ["postgres", "redis", "nginx", "python-http"] {
        args.extend(["--recipe", recipe]);
    }
    project.output(&args);
    assert_eq!(
        project.output(&["run", "redis", "--", "echo", "runs"]),
        "runs\n"
    );
    project.output(&["stop", "redis"]);
}

/// It refuses to run as root; so a root who tests is somebody else for it.
#[test]
fn postgres_recipe_serves_a_client_and_keeps_its_data() {
    const NOBODY: u32 = 65534;
    let corner = Corner::new();
    let project = corner.project("app", "");
    fs::remove_file(project.dir.join("procref.toml")).expect("unlink");
    let root = rustix::process::geteuid().is_root();
    let program = corner.path("procref");
    // Not by this process, in which another test's thread may fork while the copy is open for writing.
    let copied = Command::new("cp").arg(PROCREF).arg(&program).status();
    assert!(
        copied.expect("run cp").success(),
        "a copy that everybody can reach"
    );
    if root {
        give_away(corner.path("").as_path(), NOBODY);
    }
    let run = |args: &[&str]| {
        let template = corner.procref(&project.dir);
        let mut command = match root {
            true => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
                command.arg(&program);
                command
            }
            false => Command::new(&program),
        };
        for (name, value) in template.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command
            .args(args)
            .current_dir(&project.dir)
            .stdin(Stdio::null())
            .output()
            .expect("run");
        let (out, err) = texts(&output);
        assert!(
            output.status.success(),
            "{args:?}: {}\n{out}\n{err}",
            output.status
        );
        out
    };
    run(&["init", "--recipe", "postgres"]);
    let sql = "create table t (n int); insert into t values (41); select n + 1 from t";
    let printed = run(&["run", "postgres", "--", "psql", "-Atq", "-c", sql]);
    assert_eq!(printed, "42\n");
    // Stopped for good, and its data is there at the next start.
    run(&["stop", "postgres"]);
    let printed = run(&["run", "postgres", "--", "psql", "-Atc", "select n from t"]);
    assert_eq!(printed, "41\n");
    run(&["stop", "postgres"]);
}

fn give_away(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("chown");
    let is_dir = fs::symlink_metadata(path).expect("look").is_dir();
    for entry in is_dir
        .then(|| fs::read_dir(path).expect("read"))
        .into_iter()
        .flatten()
    {
        give_away(&entry.expect("an entry").path(), uid);
    }
}

#[test]
fn readme_configurations_are_accepted() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let blocks = readme.split("```toml\n").skip(1);
    let corner = Corner::new();
    let mut services = 0;
    for block in blocks.filter_map(|rest| rest.split("```").next()) {
        let project = corner.project("readme", block);
        let names = block.lines().filter_map(|line| {
            let name = line.strip_prefix("[services.")?;
            name.strip_suffix(']')
        });
        for name in names {
            // It does not run, so all that this does is to read what it is.
            project.output(&["stop", name]);
            services += 1;
        }
    }
    assert_ne!(services, 0, "there is none");
}
