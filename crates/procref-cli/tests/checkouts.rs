//! Projects with services of the same name. The services are separate by default, and shared if the
//! configuration sets that.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{
    live_process,
    workspace::{Project, Workspace},
};

/// Returns a configuration with a server that returns its own pid.
fn cache() -> String {
    format!(
        "[services.cache]\nstart = '{} {{port}}'\nexport = {{ CACHE = '{{port}}' }}\n",
        server::command()
    )
}

/// Returns shell code that prints the pid of the server, as the server itself reports it.
fn print_pid() -> String {
    server::request("pid", "CACHE")
}

#[test]
fn checkouts_have_separate_services_by_default() {
    let workspace = Workspace::new();
    let (one, two) = (
        workspace.project("one/app", &cache()),
        workspace.project("two/app", &cache()),
    );
    let (first, second) = (
        one.hold("cache", &print_pid()),
        two.hold("cache", &print_pid()),
    );
    let again = one.hold("cache", &print_pid());
    assert_ne!(first.printed, second.printed, "two services");
    assert_eq!(first.printed, again.printed, "one service per checkout");
    let (serving, other) = (
        live_process(&first.printed[0]),
        live_process(&second.printed[0]),
    );
    first.leave();
    assert!(serving.is_live() && other.is_live());
    again.kill();
    serving.wait_exit();
    assert!(other.is_live(), "the service of the other checkout runs");
    second.leave();
    other.wait_exit();
}

#[test]
fn checkouts_share_one_service_when_config_is_shared() {
    let workspace = Workspace::new();
    let config = format!("shared = true\n{}", cache());
    let (one, two) = (
        workspace.project("one", &config),
        workspace.project("two", &config),
    );
    let (first, second) = (
        one.hold("cache", &print_pid()),
        two.hold("cache", &print_pid()),
    );
    assert_eq!(first.printed, second.printed, "one service");
    let serving = live_process(&first.printed[0]);
    first.leave();
    assert!(serving.is_live(), "the other checkout holds the service");
    second.leave();
    serving.wait_exit();
}

#[test]
fn user_service_is_used_unless_project_defines_the_same_name() {
    let workspace = Workspace::new();
    workspace.configure_user(&cache());
    let (one, two) = (workspace.project("one", ""), workspace.project("two", ""));
    let own = workspace.project("own", &cache());
    let clients = [&one, &two, &own].map(|project| project.hold("cache", &print_pid()));
    let [first, second, third] = clients.each_ref().map(|client| client.printed.clone());
    assert_eq!(first, second, "the user's service");
    assert_ne!(first, third, "the project's own service takes precedence");
}

#[test]
fn project_runtime_directory_is_private_short_and_linked() {
    let workspace = Workspace::new();
    let project = workspace.project("a project with a name that is long", &cache());
    let client = project.hold("cache", r#"echo "$PROCREF_DIR""#);
    let dir = std::path::Path::new(&client.printed[0]);
    let metadata = fs::symlink_metadata(dir).expect("the directory");
    assert!(metadata.is_dir());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    assert_eq!(
        fs::read_link(dir.join("project")).expect("a link"),
        project.dir
    );
    let name = dir.file_name().expect("a name").len();
    assert!(name <= 33, "{} has {name} bytes", dir.display());
}

#[test]
fn config_is_found_from_below_through_a_link_and_by_name() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &cache());
    let below = project.dir.join("src/deep");
    fs::create_dir_all(&below).expect("create a directory");
    std::os::unix::fs::symlink(&project.dir, workspace.path("link")).expect("create a link");
    let first = project.hold("cache", &print_pid());
    let pid_from = |command: &mut std::process::Command| {
        let output = command
            .args(["run", "cache", "--", "sh", "-c", &print_pid()])
            .output()
            .expect("run procref");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(
        pid_from(&mut workspace.procref(&below)),
        first.printed[0],
        "from below"
    );
    assert_eq!(
        pid_from(&mut workspace.procref(&workspace.path("link"))),
        first.printed[0],
        "through a link"
    );
    let elsewhere = workspace.path("home");
    let named = project.dir.join("procref.toml");
    assert_eq!(
        pid_from(workspace.procref(&elsewhere).arg("--config").arg(&named)),
        first.printed[0],
        "by flag"
    );
    assert_eq!(
        pid_from(workspace.procref(&elsewhere).env("PROCREF_CONFIG", &named)),
        first.printed[0],
        "by variable"
    );
    let output = workspace
        .procref(&project.dir)
        .args(["--no-config", "run", "cache", "--", "true"])
        .output();
    assert!(
        !output.expect("run procref").status.success(),
        "without a configuration, no client can start the service"
    );
}

#[test]
fn g7_projects_directory_open_to_others_is_refused() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &cache());
    project.output(&["run", "cache", "--", "true"]);
    let projects = workspace.runtime_dir().join("projects");
    fs::set_permissions(&projects, fs::Permissions::from_mode(0o755)).expect("chmod");
    let (_, stderr) = project.failure(&["run", "cache", "--", "true"]);
    assert!(
        stderr.contains("mode 0755") && stderr.contains("chmod 700"),
        "{stderr}"
    );
    fs::set_permissions(&projects, fs::Permissions::from_mode(0o700)).expect("chmod");
}

#[test]
fn runtime_directory_of_another_project_is_refused() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &cache());
    project.output(&["run", "cache", "--", "true"]);
    workspace.wait_no_leftovers();
    let projects = workspace.runtime_dir().join("projects");
    let dir = fs::read_dir(projects)
        .expect("list the projects")
        .flatten()
        .next()
        .expect("a directory")
        .path();
    fs::remove_file(dir.join("project")).expect("remove the link");
    std::os::unix::fs::symlink("/somewhere/else", dir.join("project")).expect("create a link");
    let (_, stderr) = project.failure(&["run", "cache", "--", "true"]);
    assert!(stderr.contains("/somewhere/else"), "{stderr}");
}

#[test]
fn ps_all_lists_all_projects_and_gc_all_removes_deleted_ones() {
    let workspace = Workspace::new();
    let (one, two) = (
        workspace.project("one", &cache()),
        workspace.project("two", &cache()),
    );
    let clients = [
        one.hold("cache", &print_pid()),
        two.hold("cache", &print_pid()),
    ];
    let elsewhere = workspace.project("elsewhere", "");
    let listed = |args: &[&str]| {
        let json = elsewhere.output(args);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let services = json["services"].as_array().expect("a list").clone();
        let projects = services
            .iter()
            .map(|service| service["project"].as_str().map(str::to_owned));
        projects.collect::<Vec<_>>()
    };
    let dir = |project: &Project<'_>| Some(project.dir.to_string_lossy().into_owned());
    assert_eq!(listed(&["ps", "--all", "--json"]), [dir(&one), dir(&two)]);
    assert!(
        listed(&["ps", "--json"]).is_empty(),
        "the services belong to other projects"
    );
    for client in clients {
        client.leave();
    }
    workspace.wait_no_leftovers();
    fs::remove_dir_all(&one.dir).expect("remove the project");
    elsewhere.output(&["gc", "--all"]);
    let projects =
        fs::read_dir(workspace.runtime_dir().join("projects")).expect("list the projects");
    let links: Vec<_> = projects
        .flatten()
        .map(|entry| fs::read_link(entry.path().join("project")))
        .collect();
    assert!(
        !links.iter().flatten().any(|project| *project == one.dir),
        "{links:?}"
    );
    assert!(
        links.iter().flatten().any(|project| *project == two.dir),
        "{links:?}"
    );
}

#[test]
fn runtime_directory_of_a_vanished_checkout_is_removed_by_gc_and_by_a_start() {
    for command in [&["gc"][..], &["run", "cache", "--", "true"]] {
        let workspace = Workspace::new();
        let (one, two) = (
            workspace.project("one", &cache()),
            workspace.project("two", &cache()),
        );
        let client = one.hold("cache", &print_pid());
        let projects = workspace.runtime_dir().join("projects");
        let dirs = || {
            let entries = fs::read_dir(&projects).expect("list the projects");
            entries.flatten().map(|it| it.path()).collect::<Vec<_>>()
        };
        let [dir] = &dirs()[..] else {
            panic!("{:?}", dirs());
        };
        fs::rename(&one.dir, workspace.path("moved")).expect("rename the project");
        two.output(command);
        assert!(dir.exists(), "a service runs there: {command:?}");
        client.leave();
        workspace.wait_no_leftovers();
        fs::write(dir.join("kept.log"), "the last output\n").expect("write a log");
        two.output(command);
        assert!(!dir.exists(), "{command:?} keeps {:?}", dirs());
    }
}

/// A program that uses the library with the project's directory joins the service of the command line.
#[test]
fn library_with_project_joins_the_service_of_the_checkout() {
    let workspace = Workspace::new();
    let (one, two) = (
        workspace.project("one/app", &cache()),
        workspace.project("two/app", &cache()),
    );
    let (first, second) = (
        one.hold("cache", &print_pid()),
        two.hold("cache", &print_pid()),
    );
    // A path with a link leads to the same project.
    let link = workspace.path("link");
    std::os::unix::fs::symlink(&two.dir, &link).expect("create a link");
    for (dir, client) in [(&one.dir, &first), (&link, &second)] {
        let service = procref::SharedService::builder("cache")
            .base_dir(workspace.runtime_dir())
            .project(dir)
            .build()
            .expect("build the service");
        let handle = pollster::block_on(service.try_join()).expect("join");
        let handle = handle.expect("the service is running");
        assert_eq!(handle.pid().to_string(), client.printed[0]);
        assert_eq!(service.status().expect("read the status").clients(), 2);
        handle.release_blocking().expect("release");
    }
    let missing = procref::SharedService::builder("cache")
        .base_dir(workspace.runtime_dir())
        .project(workspace.path("missing"))
        .build();
    let error = missing.expect_err("there is no such project").to_string();
    assert!(
        error.contains("missing") && error.contains("No such file"),
        "{error}"
    );
    first.leave();
    second.leave();
}
