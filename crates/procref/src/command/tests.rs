use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::name::Name;
use crate::namespace;

mod logs;
mod preparing;

struct Scratch {
    dir: tempfile::TempDir,
    key: ServiceKey,
}

fn scratch() -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let namespace = namespace::open(Some(dir.path()), None).unwrap();
    Scratch {
        key: ServiceKey::new(namespace, Name::new("a service").unwrap()),
        dir,
    }
}

impl Scratch {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn fails(&self, command: &ServiceCommand) -> String {
        match command.prepare(&self.key) {
            Ok(_) => panic!("prepared: {command:?}"),
            Err(error) => error.to_string(),
        }
    }
}

fn truth() -> ServiceCommand {
    ServiceCommand::new("true")
}

fn env_of(prepared: &Prepared) -> Vec<String> {
    let text = |variable: &std::ffi::CString| variable.to_str().unwrap().to_owned();
    prepared.env.iter().map(text).collect()
}

mod templates {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::template::{expand, expand_http_path, expand_pattern, uses_port};

    fn filled(template: &str) -> String {
        let filled = expand(OsStr::new(template), 6379, Path::new("/run/x"));
        filled.into_string().unwrap()
    }

    #[test]
    fn template_fills_in_port_and_dir_everywhere() {
        assert_eq!(filled("{port}"), "6379");
        assert_eq!(filled("{dir}/x:{port}{port}"), "/run/x/x:63796379");
        assert_eq!(filled("plain"), "plain");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn template_keeps_doubled_and_other_braces() {
        assert_eq!(filled("{{port}} {{dir}}"), "{port} {dir}");
        assert_eq!(
            filled(r#"{"a":{"b":{port}},"c":"{}","{{":1}"#),
            r#"{"a":{"b":6379},"c":"{}","{{":1}"#
        );
        for untouched in [
            "{", "}", "{{", "{Port}", "{ port }", "{port", "${HOME}", "{{x}}",
        ] {
            assert_eq!(filled(untouched), untouched);
        }
        assert_eq!(filled("{{port}"), "{6379");
    }

    #[test]
    fn template_keeps_bytes_that_are_not_utf8() {
        let template = OsStr::from_bytes(b"\xff{port}\xfe");
        let filled = expand(template, 1, Path::new("/"));
        assert_eq!(filled.as_bytes(), b"\xff1\xfe");
        let dir = Path::new(OsStr::from_bytes(b"/\xff"));
        assert_eq!(expand(OsStr::new("{dir}"), 1, dir).as_bytes(), b"/\xff");
    }

    #[test]
    fn filled_in_value_is_not_filled_in_again() {
        let filled = expand(OsStr::new("{dir}"), 1, Path::new("/{port}"));
        assert_eq!(filled, "/{port}");
    }

    #[test]
    fn literal_port_needs_no_port() {
        for (template, uses) in [("a{port}", true), ("{{port}}", false), ("{dir}", false)] {
            assert_eq!(uses_port(OsStr::new(template)), uses, "{template}");
        }
    }

    #[test]
    fn http_path_percent_encodes_the_directory() {
        let dir = Path::new(OsStr::from_bytes(b"/a b/%?#\xff\n~-._9"));
        let path = expand_http_path("/{dir}/{{dir}}?a b&{port}", 80, dir);
        assert_eq!(path, "//a%20b/%25%3F%23%FF%0A~-._9/{dir}?a b&80");
    }

    #[test]
    fn pattern_escapes_the_directory() {
        let pattern = expand_pattern(r"^{dir}:{port} \d{3}$", 80, Path::new("/a.b"));
        assert_eq!(pattern, r"^/a\.b:80 \d{3}$");
    }
}

mod signals {
    use super::*;

    #[test]
    fn stop_signal_is_parsed_with_and_without_sig() {
        for (text, signal, number) in [
            ("SIGTERM", StopSignal::Term, libc::SIGTERM),
            ("int", StopSignal::Int, libc::SIGINT),
            ("SigQuit", StopSignal::Quit, libc::SIGQUIT),
            ("HUP", StopSignal::Hup, libc::SIGHUP),
            ("usr1", StopSignal::Usr1, libc::SIGUSR1),
            ("SIGUSR2", StopSignal::Usr2, libc::SIGUSR2),
            ("winch", StopSignal::Winch, libc::SIGWINCH),
            ("kill", StopSignal::Kill, libc::SIGKILL),
        ] {
            assert_eq!(text.parse::<StopSignal>().unwrap(), signal);
            assert_eq!(signal.to_string().parse::<StopSignal>().unwrap(), signal);
            assert_eq!(signal.number(), number);
        }
    }

    #[test]
    fn unknown_stop_signal_is_refused_with_the_choices() {
        for text in ["", "SIG", "SIGSIGTERM", "15", "STOP", " TERM", "\u{1f418}"] {
            let error = text.parse::<StopSignal>().unwrap_err().to_string();
            assert!(error.contains("SIGTERM, SIGINT"), "{error}");
        }
    }
}

mod checks {
    use super::*;

    #[test]
    fn invalid_setting_is_refused_with_its_name() {
        for (command, setting) in [
            (ServiceCommand::new(""), "command"),
            (ServiceCommand::new("a\0b"), "command"),
            (truth().arg("a\0b"), "command"),
            (truth().env("", "x"), "env"),
            (truth().env("A=B", "x"), "env"),
            (truth().env_remove("A=B"), "env"),
            (truth().env("A", "x\0"), "env"),
            (truth().current_dir(""), "current_dir"),
            (truth().port(0), "port"),
            (truth().log(""), "log"),
            (truth().log("/tmp/{port}.log"), "log"),
            (truth().log_limit(0), "log_limit"),
            (truth().ready(Ready::tcp()), "ready"),
            (truth().ready(Ready::http("/")), "ready"),
            (truth().port(1).ready(Ready::http("health")), "ready"),
            (truth().port(1).ready(Ready::http("/a b")), "ready"),
            (truth().port(1).ready(Ready::http("/a\r\nX: y")), "ready"),
            (
                truth().port(1).ready(Ready::http("http://localhost/")),
                "ready",
            ),
            (truth().ready(Ready::unix("")), "ready"),
            (truth().health(Ready::tcp()), "health"),
            (truth().port(1).health(Ready::http("health")), "health"),
            (truth().health(Ready::unix("")), "health"),
            (truth().health(Ready::log("x")), "health"),
            (truth().health(Ready::at_once()), "health"),
            (
                truth().health(Ready::callback(|_| async { true })),
                "health",
            ),
            (truth().health_as_ready(), "health"),
            (truth().ready(Ready::log("x")).health_as_ready(), "health"),
            (
                truth()
                    .port(1)
                    .health(Ready::tcp())
                    .health_timeout(Duration::ZERO),
                "health_timeout",
            ),
            (truth().ready(Ready::log("(")), "ready"),
            (truth().ready(Ready::command("", [""; 0])), "ready"),
            (truth().ready(Ready::command("a", ["\0"])), "ready"),
        ] {
            match command.check("it") {
                Err(Error::InvalidSetting {
                    service,
                    setting: named,
                    ..
                }) => assert_eq!((service.as_str(), named), ("it", setting), "{command:?}"),
                other => panic!("{command:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn valid_settings_are_accepted() {
        for command in [
            truth(),
            truth().arg("").env("A", "").env_remove("B"),
            truth().port(80).ready(Ready::tcp()),
            truth().arg("{port}").ready(Ready::tcp()),
            truth().ready(Ready::http("/{port}")),
            truth().socket_activation().ready(Ready::http("/a?b=%20")),
            truth().log("{dir}/x/{{port}}").log_limit(1),
            truth().health(Ready::http("/{port}")),
            truth().port(1).health_as_ready(),
            truth().port(1).health(Ready::tcp()).ready(Ready::log("x")),
            truth().health_timeout(Duration::ZERO),
            truth().ready(Ready::log(r"^\d{3} {dir}:{port}$")),
        ] {
            command.check("it").unwrap();
        }
    }

    #[test]
    fn tcp_is_the_default_with_a_port_but_not_a_passed_socket() {
        assert!(matches!(truth().readiness(), Kind::AtOnce));
        assert!(matches!(truth().port(1).readiness(), Kind::Tcp));
        assert!(matches!(truth().env("P", "{port}").readiness(), Kind::Tcp));
        let activated = truth().port(1).socket_activation();
        assert!(matches!(activated.readiness(), Kind::AtOnce));
    }
}

mod errors {
    use super::*;

    fn exited(raw: i32, lines: &str) -> String {
        let status = ExitStatus::from_raw(raw);
        let after = Duration::from_micros(120_400);
        let tail = (PathBuf::from("/x.log"), lines.to_owned());
        Error::exited("web", &["prog".to_owned()], status, after, tail).to_string()
    }

    #[test]
    fn exited_error_states_status_and_output() {
        assert_eq!(
            exited(3 << 8, "a\nb"),
            "service `web`: `prog` exited with status 3 after 120ms, before it was ready; last \
             lines of /x.log:\n    a\n    b"
        );
        assert_eq!(
            exited(libc::SIGKILL, ""),
            "service `web`: `prog` was killed by signal 9 (SIGKILL) after 120ms, before it was \
             ready; no output in /x.log"
        );
        assert_eq!(
            exited(3 << 8, ""),
            "service `web`: `prog` exited with status 3 after 120ms, before it was ready (it gave no reason: run its \
             command by hand, or let it print more); no output in /x.log"
        );
        let core = exited(libc::SIGSEGV | 0x80, "");
        assert!(core.contains("(SIGSEGV) and left a core dump"), "{core}");
        assert!(exited(0, "").contains("must stay in the foreground"));
    }

    #[test]
    fn not_ready_error_states_the_missing_condition() {
        let missing = (
            "TCP on 127.0.0.1:6379".to_owned(),
            "connection refused".to_owned(),
        );
        let tail = (PathBuf::from("/x.log"), "loading".to_owned());
        let limit = Duration::from_secs(60);
        assert_eq!(
            Error::not_ready("web", "prog".to_owned(), limit, missing, tail).to_string(),
            "service `web`: `prog` was not ready within 60s: waiting for TCP on 127.0.0.1:6379: \
             connection refused; last lines of /x.log:\n    loading"
        );
    }

    #[test]
    fn exec_error_contains_advice() {
        let said = |raw| {
            let error = std::io::Error::from_raw_os_error(raw);
            Error::exec("web", "prog", error).to_string()
        };
        assert!(said(libc::ENOEXEC).contains("#!"));
        assert!(said(libc::ENOENT).contains("interpreter"));
        assert!(said(libc::EACCES).contains("may execute"));
        assert!(said(libc::ENOMEM).starts_with("service `web`: could not start `prog`: "));
    }
}
