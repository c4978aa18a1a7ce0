//! Changes services by the same commands that a user would enter.
//!
//! A child of this process executes `procref stop`, `pin` or `unpin`. So the checks and messages are those of the
//! command, and the screen stays usable while a service takes its time to stop. If this process exits, the child still
//! completes its work.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use procref::Mismatch;

use super::Event;
use super::model::Verb;
use crate::args::Which;
use crate::commands::ps::ListedService;
use crate::error::{Error, Result};
use crate::exit::FAILED;
use crate::globals::Globals;
use crate::resolve::NamedService;
use crate::text::{shown, without_controls};

/// The result of a change.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) verb: Verb,
    pub(super) object: String,
    /// The escaped name of the service.
    pub(super) name: String,
    pub(super) code: u8,
    /// The output of the command.
    pub(super) output: Vec<String>,
}

/// Executes the command in the background, and sends its result. Returns a message about it.
pub(super) fn start(
    globals: &Globals,
    verb: Verb,
    service: &ListedService,
    events: Sender<Event>,
) -> Result<String> {
    let Some(name) = service.listed.name().map(str::to_owned) else {
        return Ok(String::new());
    };
    let words = words(globals, verb, service, &name)?;
    let own = std::env::current_exe().map_err(|error| Error::io("find this program", error))?;
    let object = service.listed.kernel_object().to_owned();
    let run = move || {
        let mut command = Command::new(own);
        let output = command.args(words).stdin(Stdio::null()).output();
        let (code, text) = match output {
            Ok(output) => {
                let code = output
                    .status
                    .code()
                    .and_then(|code| u8::try_from(code).ok());
                let text = [output.stdout, output.stderr].concat();
                (
                    code.unwrap_or(FAILED),
                    String::from_utf8_lossy(&text).into_owned(),
                )
            }
            Err(error) => (FAILED, format!("could not execute procref: {error}")),
        };
        let done = Done {
            verb,
            object,
            name: shown(&name),
            code,
            output: without_controls(&text, &['\n'])
                .lines()
                .map(str::to_owned)
                .collect(),
        };
        // The receiver is dropped when this program exits.
        let _ = events.send(Event::Done(done));
    };
    let thread = thread::Builder::new().name("procref: command".to_owned());
    thread
        .spawn(run)
        .map_err(|error| Error::io("start a thread", error))?;
    let doing = match verb {
        Verb::Stop | Verb::ForceStop => "stopping",
        Verb::Pin => "pinning",
        Verb::Unpin => "unpinning",
    };
    let name = service.listed.name().map(shown).unwrap_or_default();
    Ok(format!("{doing} `{name}`"))
}

/// Returns the arguments of the command that changes exactly this service.
fn words(
    globals: &Globals,
    verb: Verb,
    service: &ListedService,
    name: &str,
) -> Result<Vec<OsString>> {
    let (command, options): (_, &[&str]) = match verb {
        Verb::Stop => ("stop", &[]),
        Verb::ForceStop => ("stop", &["--force"]),
        Verb::Pin => ("pin", &[]),
        Verb::Unpin => ("unpin", &[]),
    };
    let mut words: Vec<OsString> = vec!["--color=never".into(), command.into()];
    words.extend(options.iter().map(OsString::from));
    let object = service.listed.kernel_object();
    let by_name = NamedService::new(globals, name, &Which::default());
    if by_name.is_ok_and(|it| it.service.kernel_object() == object) {
        // The name means this service here, and its settings in the configuration apply.
        words.extend(option("--runtime-dir", globals.runtime_dir.as_ref()));
        words.extend(option("--config", globals.config.as_ref()));
        words.extend(globals.no_config.then(|| "--no-config".into()));
    } else {
        // A service of another project, or one of several with this name.
        words.extend(option("--runtime-dir", Some(&service.dir)));
        words.push("--no-config".into());
        let named = service.named(globals)?;
        let spec = named.map(|it| it.spec);
        let separate = spec.filter(|it| it.mismatch == Some(Mismatch::Separate));
        if let Some(text) = separate.and_then(|it| it.fingerprint) {
            words.extend(option("--fingerprint", Some(&text)));
            let policy = (verb == Verb::Pin).then(|| "--mismatch=separate".into());
            words.extend(policy);
        }
    }
    words.extend(["--".into(), name.into()]);
    Ok(words)
}

/// Returns an option as one word, so that a value that begins with `-` is not read as another option.
fn option(name: &str, value: Option<&(impl AsRef<std::ffi::OsStr> + ?Sized)>) -> Option<OsString> {
    let mut word = OsString::from(format!("{name}="));
    word.push(value?);
    Some(word)
}
