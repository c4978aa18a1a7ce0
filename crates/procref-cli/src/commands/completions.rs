use std::process::ExitCode;

use clap_complete::Shell;
use clap_complete::env::Shells;

use crate::args::CompletionsArgs;
use crate::completion::VARIABLE;
use crate::error::{Error, Result};
use crate::output;

/// zsh executes the script as the completion function itself at the first request, if it has found the script in a
/// directory of `fpath`.
const ZSH_FIRST_REQUEST: &str = r#"
if [ "$funcstack[1]" = "_procref" ]; then
    _clap_dynamic_completer_procref "$@"
fi
"#;

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string());
    let shell = shell.ok_or_else(|| Error::Usage(format!("no completions for {}", args.shell)))?;
    shell
        .write_registration(VARIABLE, "procref", "procref", "procref", &mut script)
        .map_err(|error| Error::io("write the script", error))?;
    if args.shell == Shell::Zsh {
        script.extend_from_slice(ZSH_FIRST_REQUEST.as_bytes());
    }
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
