use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use super::*;

#[test]
fn prepare_fills_in_all_placeholders() {
    let scratch = scratch();
    let program = scratch.program("server", 0o700);
    let command = ServiceCommand::new("{dir}/server")
        .args(["--port", "{port}", "{{port}}"])
        .env_clear()
        .env("DATA", "{dir}/data")
        .current_dir("{dir}")
        .log("{dir}/my.log");
    command.check("it").unwrap();
    let prepared = command.prepare(&scratch.key).unwrap();
    let port = prepared.port;
    assert_ne!(port, 0);
    assert_eq!(
        prepared.program.to_str().unwrap(),
        program.to_str().unwrap()
    );
    let args: Vec<_> = prepared
        .args
        .iter()
        .map(|arg| arg.to_str().unwrap())
        .collect();
    let dir = scratch.dir.path().to_str().unwrap();
    assert_eq!(
        args,
        [
            &format!("{dir}/server"),
            "--port",
            &port.to_string(),
            "{port}"
        ]
    );
    assert_eq!(env_of(&prepared), [format!("DATA={dir}/data")]);
    assert_eq!(prepared.dir.to_str().unwrap(), dir);
    assert_eq!(prepared.log.path, scratch.path("my.log"));
    assert_eq!(command.log_path(&scratch.key), prepared.log.path);
    assert_eq!(
        prepared.ready.to_string(),
        format!("TCP on 127.0.0.1:{port} or [::1]:{port}")
    );
    assert!(prepared.listeners.is_empty() && prepared.listen_pid.is_none());
}

#[test]
fn chosen_port_is_reserved_until_it_is_released() {
    let scratch = scratch();
    let mut prepared = truth().arg("{port}").prepare(&scratch.key).unwrap();
    let address = ("127.0.0.1", prepared.port);
    assert!(TcpListener::bind(address).is_err());
    assert!(TcpStream::connect(address).is_err(), "it does not listen");
    let v6 = ("::1", prepared.port);
    assert!(TcpListener::bind(v6).is_err());
    assert!(TcpStream::connect(v6).is_err(), "it does not listen");
    prepared.reserved.clear();
    TcpListener::bind(address).unwrap();
    TcpListener::bind(v6).unwrap();
}

#[test]
fn fixed_port_is_probed_at_ipv6_unless_taken_there() {
    let scratch = scratch();
    let other = TcpListener::bind("[::1]:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let command = truth().port(port);
    let prepared = command.prepare(&scratch.key).unwrap();
    assert_eq!(
        prepared.ready.to_string(),
        format!("TCP on 127.0.0.1:{port}")
    );
    drop((prepared, other));
    let prepared = command.prepare(&scratch.key).unwrap();
    assert!(
        prepared
            .ready
            .to_string()
            .ends_with(&format!("or [::1]:{port}"))
    );
}

#[test]
fn missing_program_of_a_readiness_command_names_the_setting() {
    let scratch = scratch();
    let args: [&str; 0] = [];
    for program in ["nosuch-program", "/nonexistent/program"] {
        let error = scratch.fails(&truth().ready(Ready::command(program, args)));
        assert!(
            error.contains("invalid ready") && error.contains(program),
            "{error}"
        );
    }
}

#[test]
fn fixed_port_with_a_listener_is_an_error() {
    let scratch = scratch();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    for command in [truth().port(port), truth().port(port).socket_activation()] {
        let error = scratch.fails(&command);
        assert!(
            error.contains(&format!("127.0.0.1:{port}"))
                && error.contains("stop the process that listens there"),
            "{error}"
        );
    }
    drop(other);
    let prepared = truth().port(port).prepare(&scratch.key).unwrap();
    assert_eq!(prepared.port, port);
}

#[test]
fn command_without_a_port_binds_nothing() {
    let prepared = truth().prepare(&scratch().key).unwrap();
    assert_eq!(prepared.port, 0);
    assert!(prepared.reserved.is_empty());
}

#[test]
fn passed_socket_listens_and_is_in_the_environment() {
    let command = truth().env_clear().socket_activation();
    let prepared = command.prepare(&scratch().key).unwrap();
    TcpStream::connect(("127.0.0.1", prepared.port)).unwrap();
    assert_eq!(
        env_of(&prepared),
        [
            "LISTEN_FDNAMES=procref",
            "LISTEN_FDS=1",
            "LISTEN_PID=0000000000"
        ]
    );
    assert_eq!(prepared.listen_pid, Some(2));
    assert_eq!(prepared.listeners.len(), 1);
    assert!(prepared.reserved.is_empty());
}

#[test]
fn environment_is_inherited_and_changed() {
    let scratch = scratch();
    let set = truth().env("A", "1").env("B", "2").env_remove("B");
    let env = env_of(&set.prepare(&scratch.key).unwrap());
    assert!(env.contains(&"A=1".to_owned()));
    assert!(env.iter().any(|variable| variable.starts_with("PATH=")));
    assert!(!env.iter().any(|variable| variable.starts_with("B=")));
    let cleared = truth().env("A", "1").env_clear().env("C", "3");
    assert_eq!(env_of(&cleared.prepare(&scratch.key).unwrap()), ["C=3"]);
}

#[test]
fn variables_of_a_service_manager_are_not_inherited() {
    let names = [
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "WATCHDOG_USEC",
        "LISTENER",
        "HOME",
    ];
    let inherited = || names.iter().map(|name| ((*name).into(), "x".into()));
    let of = |command: &ServiceCommand| {
        let env = command.environment(inherited(), &|value| value.to_owned());
        env.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(of(&truth()), ["HOME", "LISTENER"]);
    let meant = truth().env("NOTIFY_SOCKET", "/x");
    assert_eq!(of(&meant), ["HOME", "LISTENER", "NOTIFY_SOCKET"]);
    assert_eq!(of(&truth().env_clear()), [""; 0]);
}

#[test]
fn program_is_searched_in_the_path_of_the_service() {
    let scratch = scratch();
    let bin = scratch.path("bin");
    fs::create_dir(&bin).unwrap();
    let first = scratch.path("denied");
    fs::create_dir(&first).unwrap();
    scratch.program("denied/my-server", 0o600);
    scratch.program("bin/my-server", 0o700);
    let search = format!("/nonexistent:{}:{}", first.display(), bin.display());
    let command = ServiceCommand::new("my-server").env("PATH", search);
    let found = command.prepare(&scratch.key).unwrap().program;
    assert_eq!(Path::new(found.to_str().unwrap()), bin.join("my-server"));

    let missing = ServiceCommand::new("my-server");
    let error = scratch.fails(&missing);
    assert!(
        error.contains("`my-server`") && error.contains("PATH"),
        "{error}"
    );
    let denied = ServiceCommand::new("my-server").env("PATH", &first);
    let error = scratch.fails(&denied);
    assert!(error.contains("Permission denied"), "{error}");
}

#[test]
fn program_that_cannot_be_executed_is_an_error_with_advice() {
    let scratch = scratch();
    let plain = scratch.program("plain", 0o600);
    for (program, why) in [
        (plain.as_path(), "may execute"),
        (scratch.dir.path(), "regular file"),
        (Path::new("/nonexistent/x"), "missing"),
        (Path::new("./nonexistent"), "missing"),
    ] {
        let error = scratch.fails(&ServiceCommand::new(program));
        assert!(
            error.contains(why) && error.contains(program.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn missing_working_directory_is_an_error() {
    let scratch = scratch();
    for dir in ["/nonexistent", "/dev/null"] {
        let error = scratch.fails(&truth().current_dir(dir));
        assert!(
            error.contains("working directory") && error.contains(dir),
            "{error}"
        );
    }
}

#[test]
fn missing_readiness_command_is_an_error_at_once() {
    let command = truth().ready(Ready::command("no-such-probe", ["x"]));
    let error = scratch().fails(&command);
    assert!(error.contains("no-such-probe"), "{error}");
}

#[test]
fn socket_path_is_relative_to_the_working_directory_and_limited() {
    let scratch = scratch();
    let command = truth().current_dir("{dir}").ready(Ready::unix("s"));
    let prepared = command.prepare(&scratch.key).unwrap();
    let path = scratch.path("s");
    assert_eq!(
        prepared.ready.to_string(),
        format!("the Unix socket {}", path.display())
    );
    let error = scratch.fails(&truth().ready(Ready::unix("x".repeat(200))));
    assert!(error.contains("107 bytes"), "{error}");
}

#[test]
fn notify_socket_is_in_the_environment_only_if_used() {
    let scratch = scratch();
    let named = |command: ServiceCommand| {
        let env = env_of(&command.prepare(&scratch.key).unwrap());
        env.into_iter().find(|it| it.starts_with("NOTIFY_SOCKET="))
    };
    assert_eq!(named(truth()), None);
    let name = named(truth().ready(Ready::notify())).unwrap();
    assert!(name.starts_with("NOTIFY_SOCKET=@"), "{name}");
}

#[test]
fn prepared_descriptors_are_closed_by_exec() {
    let command = truth().socket_activation().ready(Ready::notify());
    let prepared = command.prepare(&scratch().key).unwrap();
    let Prepared {
        null,
        log,
        listeners,
        ..
    } = &prepared;
    let crate::ready::Probe::Notify(notify) = &prepared.ready else {
        panic!("{}", prepared.ready);
    };
    let fds = [
        null.as_fd(),
        log.file.as_fd(),
        listeners[0].as_fd(),
        notify.fd().as_fd(),
    ];
    for fd in fds {
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

/// The program of nginx, for example, fails if its socket is left from a run that was killed.
#[test]
fn prepare_removes_only_sockets_that_no_process_has_bound() {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    let scratch = scratch();
    let path = |name: &str| scratch.path(name);
    drop(UnixListener::bind(path("stale")).unwrap());
    drop(UnixDatagram::bind(path("stale-datagram")).unwrap());
    fs::write(path("file"), "").unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("link")).unwrap();
    let _listening = UnixListener::bind(path("listening")).unwrap();
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    let bound = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let address = SocketAddrUnix::new(path("bound")).unwrap();
    rustix::net::bind(&bound, &address).unwrap();

    truth().prepare(&scratch.key).unwrap();
    for name in ["stale", "stale-datagram"] {
        assert!(!path(name).exists(), "{name} is left");
    }
    for name in ["file", "link", "listening", "datagram", "bound"] {
        assert!(path(name).symlink_metadata().is_ok(), "{name} is removed");
    }
}
