//! `${NAME}`: variables of the environment of the `procref` that reads the file.
//!
//! | written | value |
//! |---|---|
//! | `${NAME}` | the variable, which must be set |
//! | `${NAME:-text}` | the variable, or `text` if it is unset or empty |
//! | `$${` | `${` itself |
//!
//! The syntax is that of [Compose files]. A `$` that no brace follows has no meaning, because passwords contain it.
//!
//! [Compose files]: https://docs.docker.com/reference/compose-file/interpolation/

use super::template::{AtStart, fill};

/// A text whose variables are replaced by placeholders.
///
/// [`fill`] then treats the values of the variables as literal text. If the values were inserted first, a variable that
/// contains `{port}` would be a template.
#[derive(Debug)]
pub(super) struct HostText {
    template: String,
    values: Vec<String>,
}

impl HostText {
    /// Parses a text and gets the values of its variables.
    pub(super) fn parse(
        text: &str,
        value_of: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut template = String::with_capacity(text.len());
        let mut values = Vec::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            template.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(behind) = rest.strip_prefix("$${") {
                template.push_str(&place(values.len()));
                values.push("${".to_owned());
                rest = behind;
                continue;
            }
            // `${{port}}` is an escaped placeholder after a `$`.
            let inside = rest.strip_prefix("${").filter(|it| !it.starts_with('{'));
            let Some(inside) = inside else {
                template.push('$');
                rest = &rest[1..];
                continue;
            };
            let end = inside.find('}').ok_or_else(|| {
                format!("`{rest}` has no closing brace (for a literal `${{`, write `$${{`)")
            })?;
            let (variable, behind) = (&inside[..end], &inside[end + 1..]);
            template.push_str(&place(values.len()));
            values.push(value(variable, &value_of)?);
            rest = behind;
        }
        template.push_str(rest);
        Ok(Self { template, values })
    }

    /// Fills in the placeholders, including those of the variables.
    pub(super) fn fill(
        &self,
        at_start: AtStart<'_>,
        value_of: impl Fn(&str) -> Option<String>,
    ) -> String {
        fill(&self.template, at_start, |name| {
            match name.strip_prefix(MARK) {
                Some(number) => self.values.get(number.parse::<usize>().ok()?).cloned(),
                None => value_of(name),
            }
        })
    }
}

/// The first character of a variable's placeholder. No variable of an environment can contain it, so texts that contain
/// it are invalid anyway.
const MARK: char = '\0';

fn place(number: usize) -> String {
    format!("{{{MARK}{number}}}")
}

/// Returns the value of the text between the braces.
fn value(text: &str, value_of: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match text.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (text, None),
    };
    if !is_name(name) {
        return Err(format!(
            "`${{{text}}}` is not `${{NAME}}` or `${{NAME:-default}}` (for a literal `${{`, write `$${{`)"
        ));
    }
    match (value_of(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable `{name}` is not set (set it, or write a default: `${{{name}:-text}}`)"
        )),
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|it| it.is_ascii_alphanumeric() || it == '_')
}

#[cfg(test)]
mod tests {
    use super::super::template::OWN;
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let host = |name: &str| match name {
            "USER" => Some("ann".to_owned()),
            "EMPTY" => Some(String::new()),
            "PLACE" => Some("{port}{data}${USER}".to_owned()),
            "OPEN" => Some("{".to_owned()),
            _ => None,
        };
        let own = |name: &str| (name == "data").then(|| "/d".to_owned());
        let template = HostText::parse(text, host)?.fill(OWN, own);
        // The library fills in the port.
        let filled = procref::fill_in(template, |name| (name == "port").then(|| "1".into()));
        Ok(filled.into_string().expect("Unicode"))
    }

    #[test]
    fn variables_are_replaced_once_and_their_values_are_literal() {
        for (text, expected) in [
            ("", ""),
            ("plain $ $5 $USER {port}", "plain $ $5 $USER 1"),
            ("${USER}", "ann"),
            ("a${USER}b${USER}", "aannbann"),
            ("${EMPTY}|${EMPTY:-x}|${NONE:-y}|${NONE:-}", "|x|y|"),
            ("${USER:-x}", "ann"),
            ("${NONE:-{port}", "{port"),
            ("$${USER} $$", "${USER} $$"),
            ("${{port}} ${{data}}", "${port} ${data}"),
            ("${PLACE}", "{port}{data}${USER}"),
            ("${OPEN}port}", "{port}"),
            ("{data}/${USER}:{port}", "/d/ann:1"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_variables_are_errors_that_name_them() {
        for (text, part) in [
            ("${NONE}", "`NONE` is not set"),
            ("${USER", "no closing brace"),
            ("${}", "`${}` is not"),
            ("${a b}", "`${a b}` is not"),
            ("${1A}", "`${1A}` is not"),
            ("${USER:?x}", "`${USER:?x}` is not"),
        ] {
            let error = filled(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
