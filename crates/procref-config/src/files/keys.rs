//! The table of the keys of a configuration file.
//!
//! The parser accepts the keys of this table, and the JSON schema describes them to editors. The manual page
//! procref.toml(5) is written from it, too.

/// A key of a configuration file.
pub struct Key {
    pub name: &'static str,
    pub form: Form,
    /// The meaning of the key, for the tooltip of an editor and for the manual page.
    pub about: &'static str,
}

/// The form of a value.
pub enum Form {
    Boolean,
    Text,
    NonEmptyText,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A text that matches a pattern. The pattern accepts each valid text, and rejects the most common mistakes.
    Pattern(&'static str, &'static [&'static str]),
    /// A text with a time and its unit.
    Time,
    /// `auto` or a number.
    Port,
    /// A program and its arguments, as a text or as an array of texts.
    Command,
    /// The name of a service, or an array of names.
    Names,
    /// A text, or an array of texts.
    Texts,
    /// A table of texts, numbers and truth values.
    Variables,
    /// A table of tables with the keys of [`SERVICE`].
    Services,
    /// A table of tables with the keys of [`CLUSTER`].
    Clusters,
}

const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, about }
}

/// The keys at the top level of a file.
pub static FILE: [Key; 4] = [
    key(
        "services",
        Form::Services,
        "The services, each as a table [services.NAME].",
    ),
    key(
        "shared",
        Form::Boolean,
        "The default of `shared` for all services of this file.",
    ),
    key(
        "default",
        Form::Names,
        "The services of `procref run -- COMMAND` and `procref env`, which name none.",
    ),
    key(
        "clusters",
        Form::Clusters,
        "Clusters of etcd whose hosts share services, each as a table [clusters.NAME].",
    ),
];

/// The keys of a cluster.
pub static CLUSTER: [Key; 7] = [
    key(
        "url",
        Form::Pattern("^etcds?://", &["etcd://h1,h2,h3/ci", "etcds://h1:2379/ci"]),
        "The members and the prefix of the keys: etcd://HOST[:PORT],HOST/PREFIX, or etcds:// for TLS.",
    ),
    key(
        "ttl",
        Form::Time,
        "How long a reference lasts without a renewal, in whole seconds. By default, as short as the grace of the service \
         allows, and at least 15s.",
    ),
    key("user", Form::NonEmptyText, "The user of the cluster."),
    key(
        "password-file",
        Form::NonEmptyText,
        "A file with the password, readable only by its owner. The default is $PROCREF_CLUSTER_PASSWORD.",
    ),
    key(
        "ca",
        Form::NonEmptyText,
        "The certificate of the authority that signed those of the members.",
    ),
    key(
        "cert",
        Form::NonEmptyText,
        "The certificate of this client.",
    ),
    key(
        "key",
        Form::NonEmptyText,
        "The key of that certificate, readable only by its owner.",
    ),
];

/// The keys of a service, in the order in which messages list them.
pub static SERVICE: [Key; 27] = [
    key(
        "start",
        Form::Command,
        "The command of the service. No shell reads it, and the program must stay in the foreground. {port} is its port, \
         {dir} the runtime directory, {data} the directory of `data`, and {root} the directory of this file.",
    ),
    key(
        "init",
        Form::Command,
        "A command that fills `data` once, before the first start.",
    ),
    key(
        "data",
        Form::Text,
        "A directory for the data of the service, relative to this file. It has one user at a time.",
    ),
    key(
        "path",
        Form::Texts,
        "Directories that are searched for programs before PATH. With `*`, the highest version comes first.",
    ),
    key(
        "cwd",
        Form::Text,
        "The working directory of the service. The default is the directory of this file.",
    ),
    key(
        "env",
        Form::Variables,
        "Variables for the service, in addition to those of the client that starts it.",
    ),
    key(
        "env-file",
        Form::Texts,
        "Files of variables for the service, in the form of .env files. `env` replaces them.",
    ),
    key(
        "export",
        Form::Variables,
        "Variables for the clients and the dependents of the service.",
    ),
    key(
        "port",
        Form::Port,
        "A fixed port, or \"auto\" for a free one. By default, the service has a free port if {port} is used.",
    ),
    key(
        "ready",
        Form::Pattern(
            "^(tcp$|notify$|started$|http:/|unix:|pipe:|log:|cmd:)",
            &[
                "tcp",
                "http:/health",
                "unix:{dir}/socket",
                "log:ready to accept",
                "cmd:pg_isready -h {dir}",
            ],
        ),
        "The condition under which the service is ready. The default is tcp if it has a port, and otherwise started.",
    ),
    key(
        "health",
        Form::Pattern(
            "^(ready$|tcp$|http:/|unix:|pipe:|cmd:)",
            &["ready", "tcp", "http:/health", "cmd:pg_isready -h {dir}"],
        ),
        "The check at every join. By default, a service is healthy if its process is alive.",
    ),
    key(
        "health-timeout",
        Form::Time,
        "The time limit of `health`. The default is 5s.",
    ),
    key(
        "stop-signal",
        Form::Pattern("^[A-Za-z]+[0-9]?$", &["SIGTERM", "SIGINT", "SIGQUIT"]),
        "The signal that stops the service. The default is SIGTERM.",
    ),
    key(
        "grace",
        Form::Time,
        "The time to wait for the service to stop before it is killed. The default is 10s.",
    ),
    key(
        "linger",
        Form::Time,
        "The time to keep the service running after its last client, at most twelve days. The default is 0s.",
    ),
    key(
        "start-timeout",
        Form::Time,
        "The time limit until the service is ready, including `init`. The default is 60s.",
    ),
    key(
        "wait-timeout",
        Form::Time,
        "The time to wait for another client that starts or stops the service.",
    ),
    key(
        "log",
        Form::Text,
        "A file for the output of the service. The default is a file in the runtime directory.",
    ),
    key(
        "fingerprint",
        Form::Text,
        "A text that the running instance must match, for example a version.",
    ),
    key(
        "mismatch",
        Form::Choice(&["refuse", "join", "separate"]),
        "The action if an instance with another fingerprint runs. The default is refuse.",
    ),
    key(
        "depends-on",
        Form::Texts,
        "The names of services that this service needs while it runs.",
    ),
    key(
        "user",
        Form::NonEmptyText,
        "The user that `init` and the service run as if root starts the service. It has no effect for other users.",
    ),
    key(
        "shared",
        Form::Boolean,
        "true for one service for all projects and checkouts. The default is that of the file, which is false.",
    ),
    key(
        "cluster",
        Form::NonEmptyText,
        "The cluster whose hosts share the service: the name of a table [clusters.NAME], or a URL.",
    ),
    key(
        "advertise",
        Form::NonEmptyText,
        "The address of a service of a cluster for the clients of all hosts. {host} is the name of the service's host. The \
         default is {host}:{port}.",
    ),
    key(
        "takeover",
        Form::Choice(&["lease", "manual"]),
        "When a host of a cluster may start the service after a host that was lost: when its lease ends, or only after \
         `procref-etcd forget`. The default is lease.",
    ),
    key(
        "at",
        Form::NonEmptyText,
        "The name of the only host of a cluster that runs the service, which `procref-etcd serve` starts there. The default \
         is anyone.",
    ),
];

/// The names of [`FILE`].
pub(super) const OF_FILE: &[&str] = &names(&FILE);

/// The names of [`SERVICE`].
pub(super) const OF_SERVICE: &[&str] = &names(&SERVICE);

/// The names of [`CLUSTER`].
pub(super) const OF_CLUSTER: &[&str] = &names(&CLUSTER);

const fn names<const N: usize>(keys: &[Key; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = keys[at].name;
        at += 1;
    }
    names
}
