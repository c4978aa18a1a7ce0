//! Services of a cluster, as far as they fail before the program `procref-etcd` runs. The tests of `procref-etcd` have the
//! rest.

#![cfg(target_os = "linux")]

mod support;

use support::workspace::Workspace;

#[test]
fn cluster_needs_the_program_procref_etcd() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[clusters.ci]\nurl = 'etcd://h/x'\n[services.db]\nstart = 'sleep 600'\ncluster = 'ci'\n[services.web]\nstart = \
         'sleep 600'\n",
    );
    let web = ["run", "web", "--cluster", "ci", "--", "true"];
    for args in [&["run", "db", "--", "true"][..], &web] {
        let (code, stderr) = project.failure(args);
        assert_eq!(code, 125, "{stderr}");
        assert!(stderr.contains("the program procref-etcd"), "{stderr}");
        assert!(
            stderr.contains("cargo install --path crates/procref-etcd"),
            "{stderr}"
        );
    }
    // The other service of the file is not in the cluster.
    project.output(&["run", "web", "--", "true"]);
}

#[test]
fn cluster_option_must_be_a_url_or_a_name() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[clusters.ci]\nurl = 'etcd://h/x'\n[services.db]\nstart = 'sleep 600 {port}'\nhealth = 'tcp'\n",
    );
    for (cluster, reason) in [
        ("cii", "unknown cluster `cii`; did you mean `ci`?"),
        ("http://h", "begins with etcd://"),
        ("etcd://ann:secret@h", "contains a password"),
        ("ci", "`health` connects to this host"),
    ] {
        let (code, stderr) = project.failure(&["run", "db", "--cluster", cluster, "--", "true"]);
        assert_eq!(code, 125, "{stderr}");
        assert!(
            stderr.contains(reason) && !stderr.contains("secret"),
            "{stderr}"
        );
    }
}
