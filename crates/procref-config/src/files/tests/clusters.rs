use super::{errors, parse, spec};

#[test]
fn cluster_is_a_url_with_the_options_of_its_table() {
    let file = parse(
        r#"
        [clusters.ci]
        url = "etcds://h1,h2/ci"
        ttl = "25s"
        user = "a&b"
        password-file = "pw"
        ca = "/etc/ca.pem"
        [services.named]
        start = "x {port}"
        ready = "cmd:bin/check '{root}/a b'"
        cluster = "ci"
        advertise = "{host}:{port}"
        takeover = "manual"
        at = "gpu-1"
        [services.direct]
        start = "x"
        cluster = "etcd://h"
        export = { PORT = "{port}" }
        "#,
    )
    .expect("a valid file");
    let named = spec(&file, "named");
    let cluster = named.cluster.as_ref().expect("a cluster");
    let (separator, check) = match cfg!(windows) {
        true => ("%5C", r"'/project\bin\check'"),
        false => ("/", "/project/bin/check"),
    };
    let url = format!(
        "etcds://h1,h2/ci?ttl=25s&user=a%26b&password-file=/project{separator}pw&ca=/etc/ca.pem"
    );
    assert_eq!(cluster.url, url);
    assert_eq!(cluster.advertise.as_deref(), Some("{host}:{port}"));
    assert_eq!(cluster.takeover.as_deref(), Some("manual"));
    assert_eq!(cluster.at.as_deref(), Some("gpu-1"));
    let ready = format!("cmd:{check} '/project/a b'");
    assert_eq!(named.ready_text, Some(ready));
    let direct = spec(&file, "direct").cluster.as_ref().expect("a cluster");
    assert_eq!(direct.url, "etcd://h");
}

#[test]
fn invalid_settings_of_a_cluster_are_errors_with_their_reason() {
    let with = |cluster: &str, service: &str| {
        format!("[clusters.ci]\n{cluster}\n[services.s]\nstart = 'x'\n{service}")
    };
    let cases = [
        (
            with("url = 'http://h'", ""),
            "cluster `ci`: the URL of a cluster begins with etcd://",
        ),
        (with("url = 'etcd://u:secret@h'", ""), "contains a password"),
        (with("url = 'etcd://a b'", ""), "contains a space"),
        (
            with("url = 'etcd://h'\nttl = '2500ms'", ""),
            "whole seconds",
        ),
        (with("url = 'etcd://h'\ncert = ''", ""), "`cert` is empty"),
        (with("ttl = '5s'", ""), "missing field `url`"),
        (
            with("url = 'etcd://h'\nurls = 'x'", ""),
            "cluster `ci`: unknown key `urls`; did you mean `url`?",
        ),
        (
            with("url = 'etcd://h'", "cluster = 'cii'"),
            "unknown cluster `cii`; did you mean `ci`?",
        ),
        (
            with("url = 'etcd://h'", "advertise = 'x'"),
            "`advertise` needs `cluster`",
        ),
        (
            with("url = 'etcd://h'", "takeover = 'manual'"),
            "`takeover` needs `cluster`",
        ),
        (
            with("url = 'etcd://h'", "at = 'gpu-1'"),
            "`at` needs `cluster`",
        ),
        (
            with("url = 'etcd://h'", "cluster = 'ci'\nat = ''"),
            "`at`: the name is empty",
        ),
        (
            with("url = 'etcd://h'", "cluster = 'ci'\nhealth = 'cmd:x'"),
            "`health` connects to this host",
        ),
        (
            with("url = 'etcd://h'", "cluster = 'ci'\ndepends-on = 'of-user'"),
            "`depends-on` names services of one host",
        ),
        ("clusters = 1".to_owned(), "`clusters` must be a table"),
    ];
    for (text, reason) in cases {
        let errors = errors(&text);
        assert!(errors.contains(reason), "{text}: {errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}
