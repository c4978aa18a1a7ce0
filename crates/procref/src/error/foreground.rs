//! The options that keep well-known programs in the foreground.

/// Programs that start other programs. Their arguments may name the actual server.
const WRAPPERS: &[&str] = &[
    "ash", "bash", "chroot", "dash", "doas", "env", "fish", "gosu", "ionice", "ksh", "nice",
    "nohup", "procref", "runuser", "setpriv", "sh", "su", "su-exec", "sudo", "taskset", "timeout",
    "zsh",
];

/// Names of programs, and the option that keeps them in the foreground.
const KNOWN: &[(&[&str], &str)] = &[
    (
        &["redis-server", "valkey-server", "keydb-server"],
        "add `--daemonize no`",
    ),
    (
        &["pg_ctl", "pg_ctlcluster"],
        "start the server itself instead, `postgres -D DIR`",
    ),
    (&["nginx", "openresty", "tengine"], "add `-g 'daemon off;'`"),
    (&["memcached"], "omit `-d`"),
    (&["mysqld", "mariadbd"], "omit `--daemonize`"),
    (&["mongod", "mongos"], "omit `--fork`"),
    (&["httpd", "apache2"], "add `-D FOREGROUND`"),
    (
        &["apachectl", "apache2ctl"],
        "write `-D FOREGROUND` instead of `start`",
    ),
    (&["sshd", "lighttpd"], "add `-D`"),
    (
        &["dockerd"],
        "start it directly, not through a service manager",
    ),
    (
        &[
            "docker",
            "podman",
            "nerdctl",
            "docker-compose",
            "podman-compose",
        ],
        "omit `-d` (`--detach`)",
    ),
    (&["haproxy"], "omit `-D`, or add `-db`"),
    (&["php-fpm"], "add `--nodaemonize`"),
    (&["rabbitmq-server"], "omit `-detached`"),
    (
        &["elasticsearch", "opensearch"],
        "omit `-d` (`--daemonize`)",
    ),
    (
        &["zkServer.sh"],
        "write `start-foreground` instead of `start`",
    ),
    (
        &["kafka-server-start", "kafka-server-start.sh"],
        "omit `-daemon`",
    ),
    (&["supervisord"], "add `--nodaemon`"),
    (&["uwsgi"], "omit `--daemonize`"),
    (&["gunicorn", "celery"], "omit `--daemon`"),
    (&["named", "cron", "crond"], "add `-f`"),
    (&["dnsmasq"], "add `--keep-in-foreground`"),
    (&["slapd"], "add `-d 0`"),
    (&["squid"], "add `--foreground`"),
    (&["varnishd"], "add `-F`"),
    (&["vsftpd"], "add `-obackground=NO`"),
    (&["postfix"], "write `start-fg` instead of `start`"),
    (&["rsyslogd", "syslogd"], "add `-n`"),
    (
        &["systemctl", "service", "brew", "rc-service", "launchctl"],
        "start the service's program itself instead",
    ),
];

/// Advice for a program that exited successfully before it was ready: the option that keeps it in the
/// foreground, if the program is known.
///
/// `line` is the program and its arguments.
pub(crate) fn advice(line: &[String]) -> String {
    let way = match known(line) {
        Some((name, way)) => format!("for `{name}`, {way}"),
        None => "find the option that keeps it from becoming a daemon".to_owned(),
    };
    format!("the program must stay in the foreground: {way}")
}

fn known(line: &[String]) -> Option<(String, &'static str)> {
    let (program, args) = line.split_first()?;
    let found = |word: &str| {
        let name = file_name(word);
        let way = KNOWN.iter().find(|(names, _)| names.contains(&name));
        way.map(|(_, way)| (name.to_owned(), *way))
    };
    if !WRAPPERS.contains(&file_name(program)) {
        return found(program);
    }
    // Arguments before a `--` belong to the wrapper.
    let begin = args.iter().position(|arg| arg == "--");
    // The script of a shell is one argument.
    let words = args[begin.map_or(0, |at| at + 1)..]
        .iter()
        .flat_map(|arg| arg.split(|c: char| c.is_whitespace() || ";&|()'\"`".contains(c)));
    words.into_iter().find_map(found)
}

/// The last component of a path, without the extension of programs on Windows.
fn file_name(word: &str) -> &str {
    let name = word.rsplit(std::path::is_separator).next().unwrap_or(word);
    name.strip_suffix(".exe").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_for(line: &str) -> String {
        let words: Vec<String> = line.split('|').map(str::to_owned).collect();
        advice(&words)
    }

    #[test]
    fn advice_names_the_option_of_a_known_program() {
        for (line, expected) in [
            ("redis-server|--daemonize|yes", "`--daemonize no`"),
            (
                "/usr/lib/postgresql/16/bin/pg_ctl|start",
                "`postgres -D DIR`",
            ),
            ("nginx", "daemon off;"),
            ("memcached|-d", "omit `-d`"),
            ("mysqld|--daemonize", "omit `--daemonize`"),
            ("mongod|--fork", "omit `--fork`"),
            ("apache2", "`-D FOREGROUND`"),
            ("/usr/sbin/sshd", "for `sshd`, add `-D`"),
            (
                "sh|-c|cd /srv && exec /opt/redis-server --daemonize yes",
                "`--daemonize no`",
            ),
            ("env|A=b|memcached", "`memcached`"),
            (
                "procref|__service|--task|\"mongod\"|--|nginx",
                "daemon off;",
            ),
        ] {
            let advice = advice_for(line);
            assert!(advice.contains(expected), "{line}: {advice}");
            assert!(advice.contains("foreground"), "{advice}");
        }
    }

    #[test]
    fn advice_for_an_unknown_program_is_general() {
        for line in ["my-server|--backend|nginx", "sh|start.sh", "", "sh"] {
            let advice = advice_for(line);
            assert!(advice.contains("find the option"), "{line}: {advice}");
        }
        assert!(advice(&[]).contains("foreground"));
    }
}
