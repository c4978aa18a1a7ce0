use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn error(url: &str) -> String {
    Cluster::from_url(url).expect_err(url).to_string()
}

#[test]
fn url_is_parsed_with_default_ports_and_all_options() {
    let cluster = Cluster::from_url(
        "etcds://ann@h1:2380,10.0.0.2,[fe80::1]:1/a%20b/c/?ttl=25s&password-file=/p&ca=/ca&cert=/c&key=/k%26",
    )
    .unwrap();
    assert_eq!(
        cluster.endpoints(),
        [
            "https://h1:2380",
            "https://10.0.0.2:2379",
            "https://[fe80::1]:1"
        ]
    );
    assert_eq!(cluster.prefix(), "a b/c");
    assert_eq!(cluster.ttl(), Some(Duration::from_secs(25)));
    assert_eq!(cluster.user.as_deref(), Some("ann"));
    let files = [
        &cluster.password_file,
        &cluster.ca,
        &cluster.cert,
        &cluster.key,
    ];
    assert_eq!(
        files.map(|file| file.as_deref().and_then(Path::to_str)),
        [Some("/p"), Some("/ca"), Some("/c"), Some("/k&")]
    );
}

#[test]
fn url_without_a_prefix_uses_the_root_of_the_keys() {
    for url in ["etcd://h", "etcd://h/", "etcd://h//?ttl=5s"] {
        assert_eq!(Cluster::from_url(url).unwrap().prefix(), "", "{url}");
    }
}

#[test]
fn each_invalid_url_is_refused_with_its_reason() {
    let cases = [
        ("", "begins neither"),
        ("http://h", "begins neither"),
        ("etcd://", "member is empty"),
        ("etcd://a,,b", "member is empty"),
        ("etcd://a b", "not the name"),
        ("etcd://a:0", "from 1 to 65535"),
        ("etcd://a:65536", "from 1 to 65535"),
        ("etcd://a:x", "from 1 to 65535"),
        ("etcd://a:1:2", "from 1 to 65535"),
        ("etcd://[::1", "`]` is missing"),
        ("etcd://[a]", "no IPv6 address"),
        ("etcd://[::1]2", "from 1 to 65535"),
        ("etcd://a#b", "%23"),
        ("etcd://a/%ff", "not UTF-8"),
        ("etcd://a/%00", "NUL"),
        (
            "etcd://a?tll=5s",
            "unknown option `tll` (the options are ttl, user",
        ),
        ("etcd://a?ttl", "no value"),
        ("etcd://a?ttl=5s&ttl=6s", "repeated"),
        ("etcd://a?ttl=5", "write a number and a unit"),
        ("etcd://a?ttl=1s", "from 2s"),
        ("etcd://a?ttl=2500ms", "whole seconds"),
        ("etcd://a?ttl=2days", "to 86400s"),
        ("etcd://u@a?user=v", "two users"),
        ("etcd://@a", "user is empty"),
        ("etcd://a?password-file=/p", "needs `user`"),
        ("etcds://a?cert=/c", "need each other"),
        ("etcd://a?ca=/c", "etcds://"),
    ];
    for (url, reason) in cases {
        assert!(error(url).contains(reason), "{url}: {}", error(url));
    }
}

#[test]
fn password_in_a_url_is_refused_and_not_repeated() {
    for url in [
        "etcd://ann:secret@h",
        "etcd://h?password=secret",
        "etcd://ann:secret@h:x",
    ] {
        let error = error(url);
        assert!(error.contains("contains a password"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn url_that_is_written_is_parsed_as_the_same_cluster() {
    let urls = [
        "etcd://h",
        "etcd://u%26@h/a%3Fb/%25c?ttl=2s&password-file=p",
        "etcds://[::1],b:1/x?ca=a%20b&cert=%C3%A4&key=k",
    ];
    for url in urls {
        let cluster = Cluster::from_url(url).unwrap();
        assert_eq!(
            Cluster::from_url(&cluster.to_string()).unwrap(),
            cluster,
            "{cluster}"
        );
    }
}

/// Any text is parsed or refused, and a parsed one stays the same when it is written and parsed again.
#[test]
fn any_text_is_parsed_or_refused_without_a_panic() {
    let parts = [
        "etcd://",
        "etcds://",
        "h1",
        ":",
        "2379",
        ",",
        "[",
        "::1",
        "]",
        "/",
        "?",
        "&",
        "=",
        "ttl=",
        "25s",
        "user",
        "@",
        "ca=",
        "cert=",
        "key=",
        "password-file=",
        "%",
        "%41",
        "%ff",
        "#",
        "ä",
        "\0",
        " ",
        "{",
        "\u{202e}",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut parsed = 0;
    for _ in 0..200_000 {
        let mut url = if random.bool() {
            "etcds://h".to_owned()
        } else {
            String::new()
        };
        for _ in 0..random.usize(0..10) {
            url.push_str(random.choice(parts).unwrap());
        }
        if let Ok(cluster) = Cluster::from_url(&url) {
            parsed += 1;
            let written = cluster.to_string();
            assert_eq!(
                Cluster::from_url(&written).as_ref(),
                Ok(&cluster),
                "{url:?} {written:?}"
            );
        }
    }
    assert!(parsed > 1_000, "only {parsed} texts are valid");
}

#[test]
fn credentials_are_read_only_from_files_that_no_other_user_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "secret\n").unwrap();
    let cluster =
        Cluster::from_url(&format!("etcd://u@h?password-file={}", file.display())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = cluster.connect_options().unwrap_err().to_string();
    assert!(
        error.contains("640") && error.contains("chmod 600"),
        "{error}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(cluster.password("u").unwrap(), "secret");
    assert!(!format!("{cluster:?}{cluster}").contains("secret"));

    fs::remove_file(&file).unwrap();
    assert!(
        cluster
            .connect_options()
            .unwrap_err()
            .to_string()
            .contains("No such file")
    );
    let pipe = rustix::fs::CWD;
    rustix::fs::mknodat(
        pipe,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(
        cluster
            .connect_options()
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
}

#[cfg(feature = "tls")]
#[test]
fn certificate_that_is_no_pem_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, "no certificate").unwrap();
    let cluster = Cluster::from_url(&format!("etcds://h?ca={}", file.display())).unwrap();
    let error = cluster.connect_options().unwrap_err().to_string();
    assert!(error.contains("PEM") && error.contains("ca.pem"), "{error}");
}
