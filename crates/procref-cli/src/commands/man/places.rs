//! The variables and files of procref, for the manual pages.

/// The place to report problems.
pub(super) const ISSUES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/issues");

/// The variables that procref reads and those that it sets for clients.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "PROCREF_CONFIG",
        "The configuration file, like --config. Services and clients receive it as an absolute path.",
    ),
    (
        "PROCREF_RUNTIME_DIR",
        "The runtime directory, like --runtime-dir. Services and clients receive it as an absolute path.",
    ),
    (
        "PROCREF_KERNEL",
        "Linux: counts the clients of a new runtime directory in semaphores (sysv) or in keepers (keeper). A directory \
         with the file kernel keeps its choice.",
    ),
    (
        "PROCREF_HELPER",
        "Linux and macOS: the program that becomes a keeper, for a process that has loaded procref as a library.",
    ),
    (
        "PROCREF_CLUSTER",
        "The cluster whose hosts share the services that a command names, like --cluster.",
    ),
    (
        "PROCREF_CLUSTER_PASSWORD",
        "The password of the user in the URL of a cluster.",
    ),
    (
        "XDG_RUNTIME_DIR",
        "Linux: the runtime directory is the directory procref in it, if it belongs to this user. Otherwise the \
         runtime directory is /tmp/procref-UID.",
    ),
    (
        "XDG_CONFIG_HOME",
        "The directory of the user's file, by default ~/.config.",
    ),
    ("NO_COLOR", "Turns colors off if it is not empty."),
    (
        "RUST_LOG",
        "The log events to print, for example procref=debug.",
    ),
    (
        "PROCREF_NAME, PROCREF_PORT, PROCREF_PID, PROCREF_DIR",
        "Set for clients: the name, the port, the process and the runtime directory of the service.",
    ),
    (
        "PROCREF_ADDRESS, PROCREF_HOST, PROCREF_FENCE",
        "Set for clients of a service of a cluster: its address, its host, and its fencing token.",
    ),
    (
        "PROCREF_PORT_NAME, PROCREF_PID_NAME, PROCREF_DIR_NAME",
        "Set for clients: the same of the service and of each dependency, by the name in capital letters.",
    ),
];

/// The files that procref reads and writes.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "procref.toml",
        "The services of a project. procref searches it in the working directory and its parents.",
    ),
    (
        "~/.config/procref/config.toml",
        "The user's own services, which are available in every directory.",
    ),
    (
        "$XDG_RUNTIME_DIR/procref, /tmp/procref-UID",
        "The runtime directory: the records and logs of running services. It is empty without services, except for \
         one directory for each project.",
    ),
];
