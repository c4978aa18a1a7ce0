//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use procref_config::prestart::protocol::SUBCOMMAND;
use procref_config::recipes::RECIPES;
use procref_config::value_parsers;

use crate::commands::env::EnvFormat;
use crate::demo::args as demo;
use crate::doctor::probe;
use crate::exit;
use crate::globals::Globals;
use crate::prestart::args::PrestartArgs;
use crate::service_flags::ServiceFlags;

mod hints;
mod one_command;
mod parse;

pub(crate) use parse::{command_named, parse, public_command, shown_commands};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "procref", version, about, long_about = None, max_term_width = 100)]
#[command(after_long_help = exit::EXIT_CODES)]
#[command(disable_help_subcommand = true, propagate_version = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program while holding services
    Run(RunArgs),
    /// Hold a service until this process gets a stop signal
    Hold(HoldArgs),
    /// Connect standard input and output to a service
    Connect(ConnectArgs),
    /// Keep a service running without clients
    Pin(AcquireArgs),
    /// Unpin a service, so that it stops after its last client
    Unpin(NamedArgs),
    /// Print the variables that a running service gives to its clients
    Env(EnvArgs),
    /// List the services
    #[command(visible_alias = "list")]
    Ps(PsArgs),
    /// Show the state and the clients of services
    Status(StatusArgs),
    /// Print the output of services, also of those that have stopped
    Logs(LogsArgs),
    /// Stop services
    Stop(StopArgs),
    /// Stop services, and start them again for their clients
    Restart(RestartArgs),
    /// Wait until a service is ready or has stopped
    Wait(WaitArgs),
    /// Remove the leftovers of crashed processes
    Gc(GcArgs),
    /// Check whether services work on this machine
    Doctor(DoctorArgs),
    /// Check the configuration, and search for the programs of its services
    Check(CheckArgs),
    /// Write a configuration file with comments, or add a service to it
    Init(InitArgs),
    /// Show how clients join, leave and are killed
    Demo,
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Print a manual page
    Man(ManArgs),
    /// Print the help for procref or for a command
    Help(HelpArgs),
    /// Do the work before a service's program, and execute the program
    #[command(name = SUBCOMMAND, hide = true)]
    Prestart(PrestartArgs),
    /// Hold a reference until `doctor` kills this process
    #[command(name = probe::SUBCOMMAND, hide = true)]
    DoctorProbe(probe::ProbeArgs),
    /// Run a client of the demonstration
    #[command(name = demo::CLIENT, hide = true)]
    DemoClient,
    /// Run the service of the demonstration
    #[command(name = demo::SERVICE, hide = true)]
    DemoService(demo::DemoServiceArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Names of the services [default: the services of `default` in procref.toml]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) service: ServiceFlags,

    /// Stay as the client's parent until all of its descendants have exited
    #[arg(long)]
    pub(crate) watch_client: bool,

    /// Wait until the service has stopped, if this was its last client
    #[arg(long, requires = "watch_client")]
    pub(crate) wait_stopped: bool,

    /// Fill in {port}, {pid}, {name} and {dir} everywhere in the client's arguments
    ///
    /// By default, they are filled in where a port, a pid or a path is expected: -p {port}, localhost:{port},
    /// {dir}/socket. Arguments that are program text are not changed, and an ambiguous argument is an error.
    #[arg(long, conflicts_with = "no_fill")]
    pub(crate) fill: bool,

    /// Pass the client's arguments unchanged
    #[arg(long)]
    pub(crate) no_fill: bool,

    /// Shell command to run as the client; the variables of the services are set
    ///
    /// This is short for -- sh -c TEXT, and on Windows for -- cmd /c TEXT.
    #[arg(short = 'c', value_name = "TEXT", conflicts_with = "client")]
    #[arg(value_hint = ValueHint::CommandString)]
    pub(crate) shell: Option<OsString>,

    /// Client program and its arguments; addresses such as localhost:{port} are filled in
    #[arg(last = true, required_unless_present = "shell", value_name = "CLIENT")]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub(crate) client: Vec<OsString>,
}

impl RunArgs {
    /// Returns the words of the client's command line.
    pub(crate) fn client_words(&self) -> Vec<OsString> {
        let shell = if cfg!(windows) {
            ["cmd", "/c"]
        } else {
            ["sh", "-c"]
        };
        match &self.shell {
            Some(text) => shell
                .map(OsString::from)
                .into_iter()
                .chain([text.clone()])
                .collect(),
            None => self.client.clone(),
        }
    }
}

/// The arguments of commands that acquire a service.
#[derive(Args, Debug)]
pub(crate) struct AcquireArgs {
    /// Name of the service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct HoldArgs {
    /// Release the service at the end of the standard input
    ///
    /// The input is read and discarded. If it ends before the service is acquired, nothing is started or held.
    #[arg(long)]
    pub(crate) stdin: bool,

    /// Release the service when this process has exited
    ///
    /// A process that gets the same pid later does not count. If the process exits before the service is acquired,
    /// nothing is started or held.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(allow_negative_numbers = true)]
    pub(crate) for_pid: Option<u32>,

    #[command(flatten)]
    pub(crate) acquire: AcquireArgs,
}

#[derive(Args, Debug)]
pub(crate) struct EnvArgs {
    /// Names of the services [default: the services of `default` in procref.toml]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Format of the output
    #[arg(long, value_enum, default_value = "sh", value_name = "FORMAT")]
    pub(crate) format: EnvFormat,
}

#[derive(Args, Debug)]
pub(crate) struct ConnectArgs {
    /// Name of the service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,

    /// Unix socket of the service; {dir} is the runtime directory
    ///
    /// The default is the service's port. If it has none, the default is the socket of its readiness probe unix:PATH.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Include the services of all projects
    #[arg(long, short)]
    pub(crate) all: bool,

    /// Keep running, and show each change; at a terminal, keys show and change services
    #[arg(long, short)]
    pub(crate) watch: bool,

    /// Longest time between two updates with --watch
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value_parsers::interval)]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) json: Json,
}

/// The arguments of commands that only need to find a service.
#[derive(Args, Debug)]
pub(crate) struct NamedArgs {
    /// Name of the service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Names of the services
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Names of the services
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Keep printing new output until the service stops; wait for its start if it is not running
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Number of last lines to print first; 0 for none [default: all]
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) lines: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Names of the services
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Stop all services of this project that are not shared
    #[arg(long, short, conflicts_with_all = ["names", "fingerprint"])]
    pub(crate) all: bool,

    /// Stop services even if clients hold them
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// Names of the services
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Restart services even if clients hold them
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// Name of the service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Wait until the service is ready, even if another process starts it (default)
    #[arg(long, conflicts_with = "stopped")]
    pub(crate) ready: bool,

    /// Wait until the service has stopped
    #[arg(long)]
    pub(crate) stopped: bool,

    /// Accept a name that is in no file and that no running service has
    ///
    /// By default, such a name is an error, because it may be mistyped.
    #[arg(long)]
    pub(crate) allow_unknown: bool,

    /// Time limit [default: none]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Include the services of all projects
    #[arg(long, short)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Print the JSON schema of procref.toml, and check nothing
    #[arg(long, conflicts_with = "json")]
    pub(crate) schema: bool,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Services to describe in the file [default: a web server, with comments on all settings]
    #[arg(value_name = "RECIPE", value_parser = recipe_names())]
    pub(crate) recipes: Vec<String>,

    /// Another service to describe in the file
    #[arg(long = "recipe", value_name = "RECIPE", value_parser = recipe_names())]
    pub(crate) more_recipes: Vec<String>,

    /// List the recipes and write no file
    #[arg(long, conflicts_with_all = ["recipes", "more_recipes", "print"])]
    pub(crate) list: bool,

    /// Print the configuration and write no file
    #[arg(long)]
    pub(crate) print: bool,

    /// Print JSON
    #[arg(long, requires = "list")]
    pub(crate) json: bool,
}

fn recipe_names() -> PossibleValuesParser {
    PossibleValuesParser::new(RECIPES.iter().map(|recipe| recipe.name))
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Name of the shell
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Command whose page to print, or procref.toml [default: procref itself]
    pub(crate) command: Option<String>,

    /// Write all pages to this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct HelpArgs {
    /// Command whose help to print [default: procref itself]
    pub(crate) command: Option<String>,
}

/// Selects one of several services with the same name, for commands that start no service.
#[derive(Args, Debug, Default)]
pub(crate) struct Which {
    /// Fingerprint of the instance, if the service runs once for each fingerprint
    #[arg(long, value_name = "TEXT")]
    pub(crate) fingerprint: Option<String>,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Json {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
