use std::path::MAIN_SEPARATOR;

use super::find::Trust;
use super::*;
use crate::recipes::{RECIPES, SKELETON};

mod clusters;

const PATH: &str = "/project/procref.toml";

fn parse(text: &str) -> Result<File, ConfigError> {
    File::parse(
        PATH.into(),
        "/project".into(),
        text,
        Trust::Named,
        false,
        &["of-user"],
    )
}

/// Returns the errors of an invalid file, one on each line.
fn errors(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn spec<'a>(file: &'a File, name: &str) -> &'a ServiceSpec {
    &file.services.get(name).expect(name).spec
}

#[cfg(unix)]
fn words(words: &Option<Vec<std::ffi::OsString>>) -> Vec<&str> {
    let words = words.as_deref().unwrap_or_default();
    words
        .iter()
        .map(|word| word.to_str().expect("UTF-8"))
        .collect()
}

/// Unix only, because Windows does not support `unix:`.
#[cfg(unix)]
#[test]
fn file_with_all_keys_is_parsed() {
    let file = parse(
        r#"
        shared = true
        [services."my db"]
        start = ["bin/server", "--data", "{data}", "--here={root}", "{port}", "{dir}", "{{data}}"]
        init = "mkdir -p '{data}/a b'"
        data = "../data dir"
        cwd = "work"
        env = { A = "{data}", B = "{port}" }
        export = { URL = "http://127.0.0.1:{port}{root}" }
        port = "auto"
        ready = "unix:run/socket"
        stop-signal = "int"
        grace = "1m 30s"
        linger = "500ms"
        start-timeout = "5s"
        wait-timeout = "6s"
        log = "log/it"
        fingerprint = "v1"
        mismatch = "separate"
        depends-on = ["of-user"]
        shared = false
        "#,
    );
    let file = file.expect("a valid file");
    let service = file.services.get("my db").expect("the service");
    let spec = &service.spec;
    assert!(!service.shared);
    assert_eq!(service.depends_on, ["of-user"]);
    let expected = [
        "/project/bin/server",
        "--data",
        "/data dir",
        "--here=/project",
        "{port}",
        "{dir}",
        "{data}",
    ];
    assert_eq!(words(&spec.start), expected);
    assert_eq!(words(&spec.prestart.init), ["mkdir", "-p", "/data dir/a b"]);
    assert_eq!(spec.prestart.data.as_deref(), Some("/data dir"));
    assert_eq!(spec.cwd.as_deref(), Some(Path::new("/project/work")));
    assert_eq!(spec.log.as_deref(), Some(Path::new("/project/log/it")));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(spec.env, [pair("A", "/data dir"), pair("B", "{port}")]);
    assert_eq!(
        spec.export,
        [pair("URL", "http://127.0.0.1:{port}/project")]
    );
    let ready = format!("{:?}", spec.ready);
    assert!(ready.contains("/project/run/socket"), "{ready}");
    assert_eq!(spec.grace.map(|time| time.as_secs()), Some(90));
}

/// Unix only, because a path that begins with `/` is not absolute on Windows.
#[cfg(unix)]
#[test]
fn path_that_begins_with_a_runtime_directory_is_absolute() {
    for (written, program, log) in [
        ("{dir}/x", "{dir}/x", "{dir}/x"),
        ("{dir}x/y", "{dir}x/y", "{dir}x/y"),
        ("{{dir}}/x", "/project/{{dir}}/x", "/project/{{dir}}/x"),
        ("./{dir}/x", "/project/{dir}/x", "/project/{dir}/x"),
    ] {
        let text = format!("[services.a]\nstart = ['{written}']\nlog = '{written}'");
        let file = parse(&text).expect("a valid file");
        let spec = spec(&file, "a");
        assert_eq!(words(&spec.start), [program], "{written}");
        assert_eq!(spec.log.as_deref(), Some(Path::new(log)), "{written}");
    }
    let of_others = "[services.a]\nstart = ['{of-user.dir}/x']\ndepends-on = ['of-user']";
    let file = parse(of_others).expect("a valid file");
    assert_eq!(words(&spec(&file, "a").start), ["{of-user.dir}/x"]);
}

#[test]
fn file_is_empty_or_shared_as_a_whole() {
    assert!(parse("").expect("a valid file").services.is_empty());
    let file =
        parse("shared = true\nservices = { a.start = 'x', b = { start = 'y', shared = false } }");
    let file = file.expect("inline tables are valid");
    let shared: Vec<bool> = file.services.values().map(|it| it.shared).collect();
    assert_eq!(shared, [true, false]);
    assert_eq!(spec(&file, "a").cwd.as_deref(), Some(Path::new("/project")));
}

#[test]
fn errors_have_position_and_advice() {
    for (text, expected) in [
        (
            "[services.a]\nstrat = 'x'",
            "2:1: service `a`: unknown key `strat`; did you mean `start`?",
        ),
        (
            "[services.a]\nstart = 'x'\ndepend_on = []",
            "3:1: service `a`: unknown key `depend_on`; did you mean `depends-on`?",
        ),
        (
            "[service.a]\nstart = 'x'",
            "1:2: unknown key `service`; did you mean `services`?",
        ),
        (
            "[pg]\nstart = 'x'",
            "1:2: unknown table `[pg]`; write `[services.pg]` for a service",
        ),
        (
            "port = 5",
            "1:1: unknown key `port`; available: `services`, `shared`, `default` and `clusters`",
        ),
        ("shared = 1", "1:10: `shared` must be true or false"),
        (
            "services = 1",
            "1:12: `services` must be a table; write `[services.NAME]`",
        ),
        (
            "services.a = 1",
            "1:14: service `a` must be a table; write `[services.a]`",
        ),
        (
            "[services.a]\nready = 'tcp'",
            "1:11: service `a`: `start`, the command that starts the service, is missing",
        ),
        (
            "[services.a]\nstart = ''",
            "2:9: service `a`: `start`: the command names no program",
        ),
        (
            "[services.a]\nstart = []",
            "2:9: service `a`: `start`: the command names no program",
        ),
        (
            "[services.a]\nstart = \"a 'b\"",
            "2:9: service `a`: `start`: missing closing quote",
        ),
        (
            "[services.a]\nstart = 5",
            "2:9: service `a`: `start`: invalid type: integer `5`, expected a command: \"program argument\" or [\"program\", \"argument\"]",
        ),
        (
            "[services.a]\nstart = 'x'\nlinger = 5",
            "3:10: service `a`: `linger`: invalid type: integer `5`, expected a time with its unit, such as \"5s\"",
        ),
        (
            "[services.a]\nstart = 'x'\nport = 0",
            "3:8: service `a`: `port`: 0 is not a valid port; write `auto` for a free port",
        ),
        (
            "[services.a]\nstart = 'x'\nport = 65536",
            "3:8: service `a`: `port`: write `auto`, or a number from 1 to 65535",
        ),
        (
            "[services.a]\nstart = 'x'\nmismatch = 'no'",
            "3:12: service `a`: `mismatch`: unknown action \"no\"; expected \"refuse\", \"join\" or \"separate\"",
        ),
        (
            "[services.a]\nstart = 'x'\nready = 'htp:/'",
            &format!(
                "3:9: service `a`: `ready`: unknown condition; choose one of {}",
                crate::value_parsers::READY
            ),
        ),
        (
            "[services.a]\nstart = 'x'\nready = 'http://127.0.0.1:{port}/x'",
            "3:9: service `a`: `ready`: a whole URL is not supported; write only the path, `http:/x`: procref \
             connects to 127.0.0.1 and ::1 on the service's port (for another address, run a program: cmd:curl -sf URL)",
        ),
        (
            "[services.a]\nstart = 'x'\nhealth = 'nonsense'",
            &format!(
                "3:10: service `a`: `health`: unknown check; choose one of {}",
                crate::value_parsers::HEALTH
            ),
        ),
        (
            "[services.a]\nstart = 'x'\nhealth-timeout = '1s'",
            "1:11: service `a`: `health-timeout` needs `health`",
        ),
        (
            "[services.a]\nstart = 'x'\nhealth = 'tcp'\nhealth-timeout = '0s'",
            "4:18: service `a`: `health-timeout`: the time must not be zero",
        ),
        (
            "[services.a]\nstart = 'x'\nenv = { A = [1] }",
            "3:13: service `a`: `env`: invalid type: sequence, expected a text, a number, true or false",
        ),
        (
            "[services.a]\nstart = 'x'\nexport = { 'A=B' = '' }",
            "3:12: service `a`: `export`: invalid name of a variable \"A=B\"",
        ),
        (
            "[services.a]\nstart = 'x'\ninit = 'y'",
            "1:11: service `a`: `init` needs `data`, the directory that it fills",
        ),
        (
            "[services.a]\nstart = 'x {data}'",
            "1:11: service `a`: `{data}` is used, but `data` is not set",
        ),
        (
            "[services.a]\nstart = 'x'\ndata = '..'",
            &format!("3:8: service `a`: `data`: {MAIN_SEPARATOR} contains the configuration file"),
        ),
        (
            "[services.a]\nstart = 'x'\ndata = ''",
            "3:8: service `a`: `data`: the path is empty",
        ),
        (
            "[services.a]\nstart = 'x'\ndepends-on = ['of-usr']",
            "3:15: service `a`: unknown service `of-usr` in `depends-on`; did you mean `of-user`?",
        ),
        (
            "[services.a]\nstart = 'x {of-user.port}'",
            "1:11: service `a`: `{of-user.port}` is used, but `of-user` is not in `depends-on`",
        ),
        (
            "[services.a]\nstart = 'x'\ndepends-on = ['of-user']\nlog = '{of-user.dir}/l'",
            "1:11: service `a`: `log`: `{of-user.dir}` has no value here, only in `start`, `init`, `env` and `export`",
        ),
        (
            "[services.a]\nstart = 'x'\ndepends-on = ['of-user']\nhealth = 'cmd:y {of-user.port}'",
            "1:11: service `a`: `health`: `{of-user.port}` has no value here, only in `start`, `init`, `env` and `export`",
        ),
        (
            "[services.a]\nstart = 'x'\nshared = true\ndepends-on = ['b']\n[services.b]\nstart = 'y'",
            "1:11: service `a` is shared and depends on `b`, which belongs to this project only (set `shared` for `b`)",
        ),
        (
            "[services.a\nstart = 'x'",
            "1:12: invalid TOML: unclosed table, expected `]`",
        ),
        (
            "[services.a]\nstart = 'x'\n[services.a]",
            "3:11: invalid TOML: duplicate key",
        ),
    ] {
        assert_eq!(errors(text), format!("{PATH}:{expected}"), "{text}");
    }
}

#[test]
fn errors_of_a_file_are_reported_together() {
    let text = "[services.a]\nx = 1\ny = 2\n[services.b]\n[services.c]\nstart = 1";
    let errors = errors(text);
    let positions: Vec<&str> = errors
        .lines()
        .filter_map(|line| line.strip_prefix(PATH)?.split(": ").next())
        .collect();
    assert_eq!(
        positions,
        [":1:11", ":2:1", ":3:1", ":4:11", ":6:9"],
        "{errors}"
    );
}

#[test]
fn dependency_cycle_is_an_error() {
    let file = parse(
        "[services.in]\nstart = 'x'\ndepends-on = ['a']\n\
         [services.a]\nstart = 'x'\ndepends-on = ['b']\n\
         [services.b]\nstart = 'x'\ndepends-on = ['a']\n",
    );
    let files = Files {
        project: Some(file.expect("a valid file")),
        user: None,
    };
    let error = files.order((Origin::Project, "in")).expect_err("a cycle");
    assert_eq!(
        error.to_string(),
        format!(
            "{PATH}:4:11: services depend on each other in a cycle: a -> b -> a (remove one `depends-on`)"
        )
    );
}

#[test]
fn project_may_depend_on_user_services_but_not_vice_versa() {
    let own = parse(
        "[services.web]\nstart = 'x'\ndepends-on = ['db', 'of-user']\n[services.db]\nstart = 'own'\n",
    );
    let text =
        "[services.of-user]\nstart = 'x'\ndepends-on = ['db']\n[services.db]\nstart = 'theirs'\n";
    let users = File::parse(
        "/u/config.toml".into(),
        "/u".into(),
        text,
        Trust::User,
        true,
        &[],
    );
    let files = Files {
        project: Some(own.expect("a valid file")),
        user: Some(users.expect("a valid file")),
    };
    let order = files.order((Origin::Project, "web")).expect("no cycle");
    let expected = [
        (Origin::Project, "db"),
        (Origin::User, "db"),
        (Origin::User, "of-user"),
        (Origin::Project, "web"),
    ];
    assert_eq!(order, expected);
}

#[test]
fn recipes_and_skeleton_are_valid() {
    for recipe in RECIPES {
        let file = parse(recipe.text).expect(recipe.name);
        assert!(file.services.contains_key(recipe.name), "{}", recipe.name);
    }
    let all: Vec<&str> = RECIPES.iter().map(|recipe| recipe.text).collect();
    parse(&all.join("\n")).expect("all together");
    parse(SKELETON).expect("the skeleton");
}

#[test]
fn skeleton_shows_each_key_with_a_valid_value() {
    let (head, settings) = SKELETON.split_once("# Other settings.").expect("the list");
    let (_, settings) = settings.split_once("#\n").expect("its end");
    let settings: Vec<&str> = settings
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .collect();
    let text = format!("{head}\n{}", settings.join("\n"));
    assert!(text.contains("\nenv-file = "), "the key is shown");
    // Parsing reads the file, which does not exist here.
    let parsed = text.replace("\nenv-file = ", "\n# env-file = ");
    let without = |text: &str, keys: &[&str]| {
        let is_kept = |line: &&str| {
            !keys
                .iter()
                .any(|key| line.starts_with(&format!("{key} = ")))
        };
        text.lines().filter(is_kept).collect::<Vec<_>>().join("\n")
    };
    // The service depends on itself here. Parsing a file does not detect that.
    parse(&without(
        &parsed,
        &["cluster", "advertise", "takeover", "at"],
    ))
    .expect("the settings in the comments are valid");
    // A cluster cannot share a service with these.
    parse(&without(
        &parsed,
        &["health", "health-timeout", "depends-on"],
    ))
    .expect("the settings of a cluster are valid");
    for key in keys::OF_SERVICE {
        let shown = |text: &str| {
            text.lines()
                .any(|line| line.starts_with(&format!("{key} = ")))
        };
        assert!(shown(&text), "{key}");
    }
}

/// Parsing a mutated file never panics, and each error names the file.
#[test]
fn mutated_file_never_panics() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut corpus: Vec<String> = RECIPES
        .iter()
        .map(|recipe| recipe.text.to_owned())
        .collect();
    corpus.push(SKELETON.to_owned());
    corpus.push("[services.a]\nstart = ['x', '{b.port}']\ndepends-on = ['b']\nshared = true\n[services.b]\nstart = 'y'".to_owned());
    let pieces = [
        "[",
        "]",
        "[[",
        "=",
        "\"",
        "'",
        "'''",
        "{",
        "}",
        "{data}",
        "{{root}}",
        "{b.port}",
        "\\",
        "\n",
        "#",
        "\0",
        "\u{fffd}",
        "ß",
        "services",
        "start",
        "init",
        "data",
        "..",
        "/",
        "5s",
        "-1",
        "9e999",
        "true",
        "1979-05-27",
        "0xffffffffffffffffffffffff",
        ".",
        ",",
        "cmd:",
        "unix:",
        "log:(",
        "http:",
    ];
    let mut rejected = 0;
    for round in 0..4_000 {
        let chosen = random.usize(..corpus.len());
        let mut text: Vec<char> = corpus[chosen].chars().collect();
        for _ in 0..=random.usize(..6) {
            let at = random.usize(..=text.len());
            let end = text.len().min(at + random.usize(..12));
            match random.u8(..4) {
                0 => drop(text.drain(at..end)),
                1 => {
                    let piece = pieces[random.usize(..pieces.len())];
                    drop(text.splice(at..end, piece.chars()));
                }
                2 => {
                    let copied: Vec<char> = text[at..end].to_vec();
                    let to = random.usize(..=text.len());
                    drop(text.splice(to..to, copied));
                }
                _ => {
                    let piece = pieces[random.usize(..pieces.len())];
                    drop(text.splice(at..at, piece.chars()));
                }
            }
        }
        let text: String = text.into_iter().collect();
        let parsed =
            std::panic::catch_unwind(|| parse(&text).map(drop).map_err(|error| error.to_string()));
        match parsed {
            Err(_) => panic!("seed {seed}, round {round}: a panic at {text:?}"),
            Ok(Ok(())) => corpus.push(text),
            Ok(Err(message)) => {
                rejected += 1;
                let named = message.starts_with(&format!("{PATH}:"));
                assert!(named, "seed {seed}, round {round}: {message:?} of {text:?}");
            }
        }
        if corpus.len() > 200 {
            corpus.truncate(100);
        }
    }
    assert!(rejected > 400, "seed {seed}: the mutations break nothing");
}
