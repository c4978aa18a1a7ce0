//! The program `procref-etcd`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use procref::StopSignal;
use procref_config::value_parsers::{self, Port, When};

use crate::cluster::Cluster;
use crate::error::Result;
use crate::{fuse, host};

mod doctor;
mod forget;
mod link;
mod serve;

/// Share services among hosts, with etcd as the referee
#[derive(Debug, Parser)]
#[command(name = "procref-etcd", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold a reference to a service for all clients on this host
    Link(Box<LinkArguments>),
    /// Start a service on this host when another host needs it
    Serve(ServeArguments),
    /// Check the members of a cluster, and the permissions on its keys
    Doctor(DoctorArguments),
    /// Allow a start after an instance that vanished without an orderly stop
    Forget(ForgetArguments),
    /// End a link that does not renew its reference in time
    #[command(name = fuse::COMMAND, hide = true)]
    Fuse(FuseArguments),
}

/// Hold a reference to a service for all clients on this host
///
/// This is the command of a local service of procref. The first link of a cluster starts PROGRAM on its host, as the
/// local service NAME@instance, and the others join it. A link that is ready prints a line that begins with `ready:`, and
/// sends PROCREF_PORT, the metadata address, host and fence, and READY=1 to the socket in $NOTIFY_SOCKET. SIGTERM makes
/// the link release its reference, and first stop the service if it runs on this host.
///
/// Exit codes: 0 released, 1 failed, 2 usage, 3 the service has ended, 4 the reference was lost, 5 an earlier instance
/// vanished and the takeover is manual.
#[derive(clap::Args, Debug)]
struct LinkArguments {
    /// Cluster that keeps the references: etcd://HOST[:PORT],…/PREFIX, or etcds:// for TLS
    #[arg(long, value_name = "URL", env = "PROCREF_CLUSTER")]
    cluster: Cluster,

    /// Runtime directory of procref [default: that of the command line procref]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,

    /// Port of the service: a number, or auto for a free one
    #[arg(long, value_name = "PORT", value_parser = value_parsers::port)]
    port: Option<Port>,

    #[arg(help = format!("Condition under which the service is ready: {}", value_parsers::READY))]
    #[arg(long, value_name = "WHEN", value_parser = value_parsers::ready)]
    ready: Option<When>,

    /// Signal that stops the service [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = value_parsers::signal)]
    stop_signal: Option<StopSignal>,

    /// Time to wait for the service to stop before killing it
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value_parsers::duration)]
    grace: Duration,

    /// Time limit for a start of the service
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = value_parsers::interval)]
    start_timeout: Duration,

    /// Time without an answer of any member after which the link gives up before it is ready
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = value_parsers::interval)]
    wait_timeout: Duration,

    /// Address of the service for clients; {host} is the name of its host [default: {host}:{port}]
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,

    /// Name or address of this host in that address [default: the name of the system]
    #[arg(long, value_name = "HOST", env = "PROCREF_ADVERTISE_HOST")]
    advertise_host: Option<String>,

    /// Variable of the environment in which {port} and {dir} are filled in for the service
    #[arg(long, value_name = "NAME")]
    fill: Vec<String>,

    /// Start after an instance that vanished without an orderly stop
    #[arg(long, value_name = "WHEN", default_value = "lease")]
    takeover: Takeover,

    /// Only host that runs the service: the name of its system, its --host, or anyone [default: anyone]
    #[arg(long, value_name = "HOST")]
    at: Option<String>,

    /// Identity of this host in the cluster [default: from its name, boot, machine and namespaces]
    #[arg(long, value_name = "TEXT", env = host::IDENTITY)]
    host: Option<String>,

    /// Name of the service, which is the same on all hosts
    name: String,

    /// Program of the service, and its arguments; {port} is the service's port, {dir} the runtime directory
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Takeover {
    /// When its lease has ended
    Lease,
    /// Only after `procref-etcd forget`
    Manual,
}

/// Start a service on this host when another host needs it
///
/// `at` in procref.toml must name this host: the name of its system, or $PROCREF_CLUSTER_HOST. The service starts when a
/// client on another host asks for it, and stops after the last client of all hosts. SIGTERM stops the service and this
/// program, even while clients use the service. In a systemd unit, use Type=notify and KillMode=mixed.
#[derive(clap::Args, Debug)]
struct ServeArguments {
    /// Configuration file [default: the nearest procref.toml, and that of the user]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Runtime directory of procref [default: that of the command line procref]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,

    /// Name of the service in the file
    name: String,
}

/// Check the members of a cluster, and the permissions on its keys
///
/// Prints a line for each check, which begins with ok, warning or error. Fails if there is an error. Writes and deletes one
/// key below the prefix.
#[derive(clap::Args, Debug)]
struct DoctorArguments {
    /// Cluster: etcd://HOST[:PORT],…/PREFIX, or etcds:// for TLS
    #[arg(long, value_name = "URL", env = "PROCREF_CLUSTER")]
    cluster: Cluster,

    /// Longest grace of a service, which the time to live must allow
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value_parsers::duration)]
    grace: Duration,
}

/// Allow a start after an instance that vanished without an orderly stop
///
/// Links with --takeover manual start nothing after such an instance. Before you run this command, make sure that the
/// service does not run any more: the fencing token of the next instance does not stop it.
#[derive(clap::Args, Debug)]
struct ForgetArguments {
    /// Cluster: etcd://HOST[:PORT],…/PREFIX, or etcds:// for TLS
    #[arg(long, value_name = "URL", env = "PROCREF_CLUSTER")]
    cluster: Cluster,

    /// Name of the service
    name: String,
}

#[derive(clap::Args, Debug)]
struct FuseArguments {
    #[arg(long)]
    runtime_dir: PathBuf,
    #[arg(long, value_parser = value_parsers::duration)]
    grace: Duration,
    #[arg(long)]
    link: u32,
    instance: String,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Link(arguments) => run(link::run(*arguments)),
        Command::Serve(arguments) => run(serve::run(arguments)),
        Command::Doctor(arguments) => run(doctor::run(arguments)),
        Command::Forget(arguments) => run(forget::run(arguments)),
        Command::Fuse(FuseArguments {
            runtime_dir,
            grace,
            link,
            instance,
        }) => fuse::run(link, &runtime_dir, &instance, grace).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("procref-etcd: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|cause| crate::Error::new(format!("start the event loop: {cause}")))?;
    let done = runtime.block_on(command);
    // A thread of a start or a stop that is not over must not delay the exit: other processes wait for it.
    runtime.shutdown_background();
    done
}
