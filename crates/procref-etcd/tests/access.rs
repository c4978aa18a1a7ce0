//! Users, permissions and TLS on a real etcd, as `link` and `doctor` report them.

mod common;

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use common::Cluster;
use common::host::{Host, SERVICE, program};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};

fn doctor(url: &str) -> (bool, String) {
    let output = program(&["doctor", "--cluster", url]).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    let file = fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_each_member_the_keys_and_missing_credentials() {
    let mut cluster = Cluster::start(3).await;
    let (success, text) = doctor(&cluster.url(""));
    assert!(success, "{text}");
    assert_eq!(text.matches("has a leader").count(), 3, "{text}");
    assert!(
        text.contains("ok: a quorum answers, and the keys below test/procref/1/"),
        "{text}"
    );
    assert!(text.contains("warning: the URL names no user"), "{text}");
    assert!(text.contains("ok: the rate of the clock"), "{text}");
    assert!(!text.contains("error:"), "{text}");

    // The others keep their leader.
    let leader = cluster.leader().await;
    let dead = (leader + 1) % 3;
    cluster.members[dead].kill().unwrap();
    let (success, text) = doctor(&cluster.url("?ttl=5s"));
    assert!(
        !success && text.contains(&format!("error: {}: ", cluster.endpoints[dead])),
        "{text}"
    );
    assert!(
        text.contains("ok: a quorum answers"),
        "two members are a quorum: {text}"
    );
    assert!(
        text.contains("error: the lease's time to live of 5000 ms is too short"),
        "{text}"
    );

    cluster.members[leader].kill().unwrap();
    let (success, text) = doctor(&cluster.url(""));
    assert!(
        !success && text.contains("error: the keys below test/procref/1/"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn link_and_doctor_need_a_user_with_permission_for_the_prefix() {
    let cluster = Cluster::start(1).await;
    let mut admin = Client::connect([&cluster.endpoints[0]], None)
        .await
        .unwrap();
    admin.user_add("root", "root", None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    for (user, prefix) in [("ci", "test/"), ("other", "elsewhere/")] {
        admin.user_add(user, "secret", None).await.unwrap();
        admin.role_add(user).await.unwrap();
        let permission = Permission::read_write(prefix).with_prefix();
        admin.role_grant_permission(user, permission).await.unwrap();
        admin.user_grant_role(user, user).await.unwrap();
    }
    admin.auth_enable().await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (dir.path().join("right"), dir.path().join("wrong"));
    write_secret(&right, "secret\n");
    write_secret(&wrong, "another\n");
    let host = Host::new("a", &dir.path().join("log"));
    let url = |user: &str, file: &Path| {
        cluster.url(&format!("?user={user}&password-file={}", file.display()))
    };

    let mut link = host.start(&url("ci", &right), &[], SERVICE);
    let ready = link.ready();
    if ready.is_none() {
        panic!("{:?}", link.wait());
    }
    let (success, text) = doctor(&url("ci", &right));
    assert!(
        success && text.contains("ok: the members accept the credentials"),
        "{text}"
    );
    link.stop();

    let cases = [
        (url("ci", &wrong), "authentication failed"),
        (url("other", &right), "permission denied"),
        (cluster.url(""), "user name is empty"),
    ];
    for (url, reason) in cases {
        let (status, text) = host.start(&url, &[], SERVICE).wait();
        assert_eq!(status.code(), Some(1), "{url}: {text}");
        assert!(
            text.contains(reason) && text.contains("refused access"),
            "{url}: {text}"
        );
        let (success, text) = doctor(&url);
        assert!(!success && text.contains(reason), "{url}: {text}");
    }
}

struct Certificates {
    ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self {
            ca: rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap(),
        }
    }

    /// Writes a certificate for 127.0.0.1 and its key to these files.
    fn issue(&self, dir: &Path, name: &str) {
        use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![ClientAuth, ServerAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.ca).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        write_secret(&dir.join(format!("{name}.key")), &key.serialize_pem());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn link_needs_a_certificate_that_the_members_trust() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    fs::write(path("ca.pem"), ours.ca.pem()).unwrap();
    fs::write(path("wrong-ca.pem"), theirs.ca.pem()).unwrap();
    ours.issue(dir.path(), "server");
    ours.issue(dir.path(), "client");
    theirs.issue(dir.path(), "stranger");
    let identity = Identity::from_pem(
        fs::read(path("client.pem")).unwrap(),
        fs::read(path("client.key")).unwrap(),
    );
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(ours.ca.pem()))
        .identity(identity);
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let arguments = [
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--client-cert-auth",
        "--trusted-ca-file",
        &ca,
    ];
    let cluster =
        Cluster::start_with(1, "https", &arguments, ConnectOptions::new().with_tls(tls)).await;

    let url = |ca: &str, client: &str| {
        let (ca, cert, key) = (
            path(ca),
            path(&format!("{client}.pem")),
            path(&format!("{client}.key")),
        );
        cluster
            .url(&format!("?ca={ca}&cert={cert}&key={key}"))
            .replace("etcd:", "etcds:")
    };
    let host = Host::new("a", &dir.path().join("log"));
    let mut link = host.start(&url("ca.pem", "client"), &[], SERVICE);
    let ready = link.ready();
    if ready.is_none() {
        panic!("{:?}", link.wait());
    }
    let (success, text) = doctor(&url("ca.pem", "client"));
    assert!(success, "{text}");
    link.stop();

    for (url, reason) in [
        (url("wrong-ca.pem", "client"), "(check that `ca`"),
        (url("ca.pem", "stranger"), "(check that `cert` and `key`"),
        (cluster.url(""), "gave no answer"),
    ] {
        let (status, text) = host.start(&url, &["--wait-timeout", "1s"], SERVICE).wait();
        assert_eq!(status.code(), Some(1), "{url}: {text}");
        assert!(text.contains(reason), "{url}: {text}");
    }
}
