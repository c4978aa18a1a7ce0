//! What can be written on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::config;
use crate::demo::roles;
use crate::doctor::probe;
use crate::error::{self, Error};
use crate::prestart::{self, SetupArgs};
use crate::recipes::RECIPES;
use crate::spec::ServiceFlags;
use crate::value_parsers;

/// Many processes, one background service: the first client starts it, the others join, the last one
/// stops it, and the kernel counts.
#[derive(Debug, Parser)]
#[command(name = "procref", version, about, long_about = None, max_term_width = 100)]
#[command(after_long_help = error::EXIT_CODES)]
#[command(disable_help_subcommand = true, propagate_version = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// The runtime directory: who shares it shares services
    #[arg(long_help = value_parsers::RUNTIME_DIR)]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// The configuration file, in place of the procref.toml that is found upwards from here
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "no_config")]
    pub(crate) config: Option<PathBuf>,

    /// Read no configuration file
    #[arg(long, global = true)]
    pub(crate) no_config: bool,

    /// Say nothing but what was asked for, and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Tell what is going on; twice for every step
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(flatten)]
    pub(crate) color: colorchoice_clap::Color,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program while holding a service
    Run(RunArgs),
    /// Hold a service until this is told to end
    Hold(HoldArgs),
    /// Keep a service running although nobody holds it
    Pin(PinArgs),
    /// Let a pinned service end with its last client again
    Unpin(UnpinArgs),
    /// List the services
    #[command(visible_alias = "list")]
    Ps(PsArgs),
    /// Tell how a service is, and who holds it
    Status(StatusArgs),
    /// Print what a service has written
    Logs(LogsArgs),
    /// Stop a service
    Stop(StopArgs),
    /// Wait until a service is ready, or gone
    Wait(WaitArgs),
    /// Remove what crashes have left
    Gc(GcArgs),
    /// Look for what keeps services from working on this machine
    Doctor(DoctorArgs),
    /// Write a configuration file with comments
    Init(InitArgs),
    /// Watch real clients come, go and be killed
    Demo,
    /// Print a shell's completions
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Print the help of procref or of one of its commands
    Help(HelpArgs),
    /// What comes before the program of a service; for procref itself
    #[command(name = prestart::SUBCOMMAND, hide = true)]
    Setup(SetupArgs),
    /// What `doctor` kills
    #[command(name = probe::SUBCOMMAND, hide = true)]
    DoctorProbe(probe::ProbeArgs),
    /// A client in the demonstration
    #[command(name = roles::CLIENT, hide = true)]
    DemoClient,
    /// The service in the demonstration
    #[command(name = roles::SERVICE, hide = true)]
    DemoService(roles::ServiceArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The service
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) service: ServiceFlags,

    /// Stay as the client's parent, until everything that it has started has ended
    #[arg(long)]
    pub(crate) watch_client: bool,

    /// Return only when the service has stopped, if this was its last client
    #[arg(long, requires = "watch_client")]
    pub(crate) wait_stopped: bool,

    /// Fill in {port}, {pid}, {name} and {dir} wherever they stand in the client's words
    ///
    /// Without this they are filled in where a port, a pid or a path stands: -p {port}, localhost:{port},
    /// {dir}/socket. Programs stay as they are, and a word that can be both is an error.
    #[arg(long, conflicts_with = "no_fill")]
    pub(crate) fill: bool,

    /// Fill in nothing: pass the client's words as they are
    #[arg(long)]
    pub(crate) no_fill: bool,

    /// The program and its arguments, in which addresses such as localhost:{port} are filled in
    #[arg(last = true, required = true, value_name = "CLIENT")]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub(crate) client: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct HoldArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct PinArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) service: ServiceFlags,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct UnpinArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Those of all projects
    #[arg(long, short)]
    pub(crate) all: bool,

    /// Go on, and show every change
    #[arg(long, short)]
    pub(crate) watch: bool,

    /// How often to look, with --watch
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value_parsers::interval)]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Go on with what it writes, until it is stopped
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Only the last lines; 0 for none of those that are there
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) lines: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Stop it also while clients hold it
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// The service
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) which: Which,

    /// Until it can be used, whoever starts it (this is what it waits for unless told otherwise)
    #[arg(long, conflicts_with = "stopped")]
    pub(crate) ready: bool,

    /// Until it does not run any more
    #[arg(long)]
    pub(crate) stopped: bool,

    /// Wait also for a name that neither a file nor a running service has yet
    ///
    /// Without this, such a name is an error, because it may be mistyped.
    #[arg(long)]
    pub(crate) allow_unknown: bool,

    /// How long at most [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = value_parsers::duration)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Those of all projects
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
pub(crate) struct InitArgs {
    /// A service to describe in it; without any, one with comments on everything that can be set
    #[arg(long = "recipe", value_name = "RECIPE", value_parser = recipe_names())]
    pub(crate) recipes: Vec<String>,

    /// List the recipes, and write nothing
    #[arg(long, conflicts_with_all = ["recipes", "print"])]
    pub(crate) list: bool,

    /// Print what would be written, and write nothing
    #[arg(long)]
    pub(crate) print: bool,

    /// Print JSON, for programs
    #[arg(long, requires = "list")]
    pub(crate) json: bool,
}

fn recipe_names() -> PossibleValuesParser {
    PossibleValuesParser::new(RECIPES.iter().map(|recipe| recipe.name))
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The command whose page it is; procref's own without it
    pub(crate) command: Option<String>,

    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct HelpArgs {
    /// The command to print the help of; without it, the help of procref
    pub(crate) command: Option<String>,
}

/// Which of the services of a name, for commands that start none.
#[derive(Args, Debug, Default)]
pub(crate) struct Which {
    /// The one with this fingerprint, of a service that runs once for each
    #[arg(long, value_name = "TEXT")]
    pub(crate) fingerprint: Option<String>,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Json {
    /// Print JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// A command line that was not understood, or asked for help.
pub(crate) struct Refused {
    error: clap::Error,
    /// For `run`, whose client may use the codes that other commands use.
    in_run: bool,
}

impl Refused {
    pub(crate) fn tell(self) -> ExitCode {
        // Whether anybody reads it changes nothing.
        let _ = self.error.print();
        match self.error.exit_code() {
            0 => ExitCode::SUCCESS,
            _ if self.in_run => ExitCode::from(error::CLIENT_NOT_RUN),
            _ => ExitCode::from(error::USAGE),
        }
    }
}

pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Refused> {
    let words: Vec<OsString> = words.into_iter().collect();
    Cli::try_parse_from(&words).map_err(|error| Refused {
        error,
        in_run: is_run(words),
    })
}

fn is_run(words: Vec<OsString>) -> bool {
    let lenient = Cli::command().ignore_errors(true);
    let found = lenient.try_get_matches_from(words);
    found.is_ok_and(|found| found.subcommand_name() == Some("run"))
}

/// The command line without the commands that procref runs itself.
pub(crate) fn for_people() -> clap::Command {
    let whole = Cli::command();
    let shown: Vec<clap::Command> = shown_commands(&whole).cloned().collect();
    let names: Vec<String> = shown.iter().map(|it| it.get_name().to_owned()).collect();
    let takes_command = |command: clap::Command| {
        let names = PossibleValuesParser::new(names.clone());
        command.mut_arg("command", |arg| arg.value_parser(names))
    };
    // There is no way to take a command out of the derived one.
    clap::Command::new("procref")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(shown)
        .mut_subcommand("help", takes_command)
        .mut_subcommand("man", takes_command)
}

fn shown_commands(root: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    root.get_subcommands().filter(|it| !it.is_hide_set())
}

/// Finds a command that is not hidden, by its name or an alias.
pub(crate) fn command_named<'a>(
    root: &'a clap::Command,
    name: &str,
) -> Result<&'a clap::Command, Error> {
    let found = root.find_subcommand(name).filter(|it| !it.is_hide_set());
    found.ok_or_else(|| {
        let names = shown_commands(root).map(clap::Command::get_name);
        let suggested = config::suggestion(name, names);
        Error::Usage(format!("there is no command {name:?}{suggested}"))
    })
}
