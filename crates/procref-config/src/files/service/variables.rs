//! The variables of a service: their names, the files of `env-file`, and `PATH`.

use std::env;
use std::path::Path;

use super::ServiceContext;
use super::paths::{clean, matching_dirs};
use crate::files::find::{self, Trust};
use crate::files::schema::ServiceKeys;
use crate::files::template::AtStart;

/// The separator of the directories in `PATH`.
const PATH_SEPARATOR: &str = if cfg!(windows) { ";" } else { ":" };

impl ServiceContext<'_> {
    /// Returns the variables of a file. Their values have no placeholders.
    pub(super) fn env_file(
        &self,
        file: &str,
        at_start: AtStart<'_>,
    ) -> Result<Vec<(String, String)>, String> {
        let path = clean(&self.root.join(file));
        let trust = match self.trust {
            Trust::Named => Trust::Named,
            _ => Trust::EnvFile,
        };
        let dir = path.parent().unwrap_or(self.root);
        let text = find::read(&path, dir, trust).map_err(|error| error.to_string())?;
        let mut pairs = Vec::new();
        for variable in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) = variable.map_err(|error| invalid_line(&path, &text, &error))?;
            pairs.push((name, at_start.literal(&value)));
        }
        Ok(pairs)
    }

    /// Prepends the existing directories of `path` to the service's PATH.
    pub(super) fn extend_path(
        &self,
        keys: &ServiceKeys,
        at_start: AtStart<'_>,
        env: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        if keys.path.is_empty() {
            return Ok(());
        }
        let mut dirs = Vec::new();
        for pattern in &keys.path {
            let mut found = matching_dirs(self.root, pattern.get_ref())
                .map_err(|error| format!("`path`: {:?}: {error}", pattern.get_ref()))?;
            // The highest version comes first. The order is numeric: 9 is less than 16.
            alphanumeric_sort::sort_path_slice_rev(&mut found);
            dirs.extend(found);
        }
        let set = env.iter().rfind(|(name, _)| is_path(name));
        let rest = match set {
            Some((_, path)) => path.clone(),
            None => {
                let inherited = env::var_os("PATH").unwrap_or_default();
                at_start.literal(&inherited.to_string_lossy())
            }
        };
        let joined = env::join_paths(&dirs).map_err(|error| format!("`path`: {error}"))?;
        let joined = at_start.literal(&joined.to_string_lossy());
        let parts = [joined, rest];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        env.push(("PATH".to_owned(), parts.join(PATH_SEPARATOR)));
        Ok(())
    }
}

/// Returns the error about a line of a file of variables. The line itself may be a secret.
fn invalid_line(path: &Path, text: &str, error: &dotenvy::Error) -> String {
    let path = path.display();
    let number = match error {
        // The error has the line, or the part of it that is invalid.
        dotenvy::Error::LineParse(part, _) => text.lines().position(|it| it.contains(part.trim())),
        _ => None,
    };
    let place = number.map_or(String::new(), |number| format!(":{}", number + 1));
    format!(
        "{path}{place}: invalid line; write NAME=value, and quote a value with special characters: NAME='a b$c'"
    )
}

pub(in crate::files) fn is_path(variable: &str) -> bool {
    match cfg!(windows) {
        true => variable.eq_ignore_ascii_case("PATH"),
        false => variable == "PATH",
    }
}

/// Returns `true` if an environment variable can have this name.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}
