//! How well-known programs are kept from becoming daemons.

/// Programs that start others, whose words may name the program that matters.
const WRAPPERS: &[&str] = &[
    "ash", "bash", "chroot", "dash", "doas", "env", "fish", "gosu", "ionice", "ksh", "nice",
    "nohup", "procref", "runuser", "setpriv", "sh", "su", "su-exec", "sudo", "taskset", "timeout",
    "zsh",
];

/// Names of programs, and what keeps them in the foreground.
const KNOWN: &[(&[&str], &str)] = &[
    (
        &["redis-server", "valkey-server", "keydb-server"],
        "add `--daemonize no`",
    ),
    (
        &["pg_ctl", "pg_ctlcluster"],
        "in place of it start the server itself, `postgres -D DIR`",
    ),
    (&["nginx", "openresty", "tengine"], "add `-g 'daemon off;'`"),
    (&["memcached"], "leave out `-d`"),
    (&["mysqld", "mariadbd"], "leave out `--daemonize`"),
    (&["mongod", "mongos"], "leave out `--fork`"),
    (&["httpd", "apache2"], "add `-D FOREGROUND`"),
    (
        &["apachectl", "apache2ctl"],
        "write `-D FOREGROUND` in place of `start`",
    ),
    (&["sshd", "lighttpd"], "add `-D`"),
    (&["dockerd"], "start it directly, not by a service manager"),
    (
        &[
            "docker",
            "podman",
            "nerdctl",
            "docker-compose",
            "podman-compose",
        ],
        "leave out `-d` (`--detach`)",
    ),
    (&["haproxy"], "leave out `-D`, or add `-db`"),
    (&["php-fpm"], "add `--nodaemonize`"),
    (&["rabbitmq-server"], "leave out `-detached`"),
    (
        &["elasticsearch", "opensearch"],
        "leave out `-d` (`--daemonize`)",
    ),
    (
        &["zkServer.sh"],
        "write `start-foreground` in place of `start`",
    ),
    (
        &["kafka-server-start", "kafka-server-start.sh"],
        "leave out `-daemon`",
    ),
    (&["supervisord"], "add `--nodaemon`"),
    (&["uwsgi"], "leave out `--daemonize`"),
    (&["gunicorn", "celery"], "leave out `--daemon`"),
    (&["named", "cron", "crond"], "add `-f`"),
    (&["dnsmasq"], "add `--keep-in-foreground`"),
    (&["slapd"], "add `-d 0`"),
    (&["squid"], "add `--foreground`"),
    (&["varnishd"], "add `-F`"),
    (&["vsftpd"], "add `-obackground=NO`"),
    (&["postfix"], "write `start-fg` in place of `start`"),
    (&["rsyslogd", "syslogd"], "add `-n`"),
    (
        &["systemctl", "service", "brew", "rc-service", "launchctl"],
        "in place of it start the program that it starts",
    ),
];

/// What to do about a program that exited with success too early: what keeps it in the foreground, if the
/// program is known.
///
/// `line` is the program as it was named, and its arguments.
pub(crate) fn advice(line: &[String]) -> String {
    let way = match known(line) {
        Some((name, way)) => format!("for `{name}`, {way}"),
        None => "look for an option that keeps it from becoming a daemon".to_owned(),
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
    // What stands before a `--` is the wrapper's own.
    let begin = args.iter().position(|arg| arg == "--");
    // A shell's script is one word.
    let words = args[begin.map_or(0, |at| at + 1)..]
        .iter()
        .flat_map(|arg| arg.split(|c: char| c.is_whitespace() || ";&|()'\"`".contains(c)));
    words.into_iter().find_map(found)
}

/// The last part of a path, without the ending that programs have on Windows.
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
            ("memcached|-d", "leave out `-d`"),
            ("mysqld|--daemonize", "leave out `--daemonize`"),
            ("mongod|--fork", "leave out `--fork`"),
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
            assert!(advice.contains("look for an option"), "{line}: {advice}");
        }
        assert!(advice(&[]).contains("foreground"));
    }
}
