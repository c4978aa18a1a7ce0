use std::fs;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::args::{self, Cli, ManArgs};
use crate::error::{Error, Result};
use crate::output;

pub(crate) fn run(args: &ManArgs) -> Result<ExitCode> {
    let mut root = Cli::command();
    // After `build`, each page has the global options and the full name of its command.
    root.build();
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir)
            .map_err(|error| Error::io(format!("create {}", dir.display()), error))?;
        let shown = root
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        for command in std::iter::once(&root).chain(shown) {
            let path = dir.join(format!("{}.1", page_name(command)));
            fs::write(&path, page(command)?)
                .map_err(|error| Error::io(format!("write {}", path.display()), error))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let command = match &args.command {
        None => &root,
        Some(name) => args::command_named(&root, name)?,
    };
    output::print(&String::from_utf8_lossy(&page(command)?))?;
    Ok(ExitCode::SUCCESS)
}

fn page_name(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    name.replace(' ', "-")
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let name = page_name(command);
    Man::new(command.clone().name(name.clone()).display_name(name))
        .render(&mut page)
        .map_err(|error| Error::io("write the page", error))?;
    Ok(page)
}
