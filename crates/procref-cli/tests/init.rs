//! `procref init`.

mod project;

use std::fs;

use project::Corner;

#[test]
fn init_writes_a_configuration_that_works() {
    let corner = Corner::new();
    let project = corner.project("app", "");
    fs::remove_file(project.dir.join("procref.toml")).expect("unlink");
    fs::write(project.dir.join("page.html"), "a page\n").expect("a page");
    project.output(&["init"]);
    let script = r#"curl -sf "$HTTP_URL/page.html""#;
    assert_eq!(
        project.output(&["run", "web", "--", "sh", "-c", script]),
        "a page\n"
    );
    project.output(&["stop", "web"]);
}

#[test]
fn init_keeps_an_existing_file() {
    let corner = Corner::new();
    let project = corner.project("app", "# mine\n");
    for args in [&["init"][..], &["init", "--recipe", "redis"]] {
        let (code, said) = project.failure(args);
        assert_eq!(code, 2);
        assert!(said.contains("procref.toml is there already"), "{said}");
    }
    let link = corner.path("app/link.toml");
    std::os::unix::fs::symlink("nowhere", &link).expect("a link");
    project.failure(&["init", "--config", "link.toml"]);
    let content = fs::read_to_string(project.dir.join("procref.toml"));
    assert_eq!(content.expect("the file"), "# mine\n");
    assert!(!corner.path("app/nowhere").exists());
}

#[test]
fn init_prints_recipes_that_can_be_added_to_a_file() {
    let corner = Corner::new();
    let project = corner.project("app", "");
    let printed = project.output(&["init", "--print", "--recipe", "redis", "--recipe", "redis"]);
    assert_eq!(printed.matches("[services.redis]").count(), 1);
    project.configure(&printed);
    assert_eq!(
        project.output(&["run", "redis", "--", "echo", "runs"]),
        "runs\n"
    );
    project.output(&["stop", "redis"]);
}

#[test]
fn init_lists_recipes_as_text_and_json() {
    let corner = Corner::new();
    let project = corner.project("app", "");
    let listed = project.output(&["init", "--list"]);
    let json: serde_json::Value =
        serde_json::from_str(&project.output(&["init", "--list", "--json"])).expect("JSON");
    let names: Vec<&str> = json
        .as_array()
        .expect("an array")
        .iter()
        .map(|recipe| recipe["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["postgres", "redis", "nginx", "python-http"]);
    assert!(
        names
            .iter()
            .zip(listed.lines())
            .all(|(name, line)| line.starts_with(name)),
        "{listed}"
    );
    let (code, said) = project.failure(&["init", "--recipe", "mysql"]);
    assert_eq!(code, 2);
    assert!(said.contains("postgres"), "it says what there is: {said}");
}
