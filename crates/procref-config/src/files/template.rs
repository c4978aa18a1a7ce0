//! The placeholders `{data}`, `{root}` and `{SERVICE.port}`, which configuration files have in addition to the
//! library's `{port}` and `{dir}`.
//!
//! Each text is filled in twice: with values from the file when the file is read, and with ports and runtime
//! directories when the service starts. A value must not be treated as a template, because the path of a project may
//! contain `{port}`. The first pass therefore escapes all literal text, and the second pass fills in all remaining
//! placeholders at once.

use std::ffi::{OsStr, OsString};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The placeholders that are filled in when a service starts: its own port and runtime directory, and those of the
/// services with these names.
#[derive(Clone, Copy, Debug)]
pub struct AtStart<'a>(pub &'a [String]);

/// The placeholders that the library fills in.
pub const OWN: AtStart<'static> = AtStart(&[]);

impl AtStart<'_> {
    fn has(self, place: &str) -> bool {
        matches!(place, "port" | "dir") || self.has_dependency(place)
    }

    /// Returns the name and `port` or `dir`, if the placeholder belongs to another service.
    pub fn dependency(self, place: &str) -> Option<(&str, &str)> {
        let (name, what) = place.rsplit_once('.')?;
        let is_known = !name.contains('{') && self.0.iter().any(|known| known == name);
        (is_known && matches!(what, "port" | "dir")).then_some((name, what))
    }

    fn has_dependency(self, place: &str) -> bool {
        self.dependency(place).is_some()
    }

    /// Returns `true` if the template begins with a runtime directory, so that it is an absolute path.
    pub fn begins_with_dir(self, template: &str) -> bool {
        let is_dir = |name| name == "dir" || self.dependency(name).is_some_and(|it| it.1 == "dir");
        named(template, "{", "}").is_some_and(|(name, _)| is_dir(name))
    }

    /// Returns a template that is equal to `text` after these placeholders are filled in.
    pub fn literal(self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            let (before, from) = rest.split_at(brace);
            escaped.push_str(before);
            match named(from, "{", "}").filter(|(name, _)| self.has(name)) {
                Some((name, behind)) => {
                    escaped.push_str("{{");
                    escaped.push_str(name);
                    escaped.push_str("}}");
                    rest = behind;
                }
                None => {
                    escaped.push('{');
                    rest = &from[1..];
                }
            }
        }
        escaped.push_str(rest);
        escaped
    }

    /// Returns `true` if the template has a placeholder of a dependency, escaped or not.
    pub fn mentions_dependency(self, template: &str) -> bool {
        let braces = template.match_indices('{');
        braces
            .filter_map(|(at, _)| named(&template[at..], "{", "}"))
            .any(|(name, _)| self.has_dependency(name))
    }
}

/// Fills in each `{name}` that has a value. Returns a template for the placeholders of `at_start`, in which the values
/// are literal.
///
/// `{{name}}` stands for the literal text `{name}`, if the name has a value or belongs to `at_start`. Other braces have
/// no meaning.
pub fn fill(
    template: &str,
    at_start: AtStart<'_>,
    value_of: impl Fn(&str) -> Option<String>,
) -> String {
    let mut filled = String::with_capacity(template.len());
    // Literal text that is not escaped yet. It is escaped as a whole, because a value and the text next to it
    // may together form a placeholder.
    let mut literal = String::new();
    let mut rest = template;
    while let Some(brace) = rest.find('{') {
        let (before, from) = rest.split_at(brace);
        literal.push_str(before);
        let is_known = |name: &str| at_start.has(name) || value_of(name).is_some();
        if let Some((name, behind)) = named(from, "{{", "}}").filter(|(name, _)| is_known(name)) {
            literal.push('{');
            literal.push_str(name);
            literal.push('}');
            rest = behind;
        } else if let Some((name, behind)) =
            named(from, "{", "}").filter(|(name, _)| is_known(name))
        {
            match value_of(name) {
                Some(value) => literal.push_str(&value),
                None => {
                    filled.push_str(&at_start.literal(&std::mem::take(&mut literal)));
                    filled.push('{');
                    filled.push_str(name);
                    filled.push('}');
                }
            }
            rest = behind;
        } else {
            literal.push('{');
            rest = &from[1..];
        }
    }
    literal.push_str(rest);
    filled.push_str(&at_start.literal(&literal));
    filled
}

/// Returns `true` if the text has the placeholder and does not escape it.
pub fn uses(template: &str, place: &str) -> bool {
    let with = |value: &str| {
        fill(template, OWN, |name| {
            (name == place).then(|| value.to_owned())
        })
    };
    with("0") != with("1")
}

/// Returns the names that are in one pair of braces, except those after a `$` or a `%`, which shells and other programs
/// read.
pub(super) fn places(template: &str) -> impl Iterator<Item = &str> {
    let braces = template.match_indices('{');
    braces.filter_map(|(at, _)| {
        let (name, behind) = named(&template[at..], "{", "}")?;
        let is_other = template[..at].ends_with(['{', '$', '%']) || behind.starts_with('}');
        (!is_other).then_some(name)
    })
}

/// Returns the name in the braces at the beginning of a text, and the text after them.
fn named<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inside = text.strip_prefix(open)?;
    // A name has no brace. Otherwise, a text of many opening braces would take quadratic time.
    let end = inside.find(['{', '}'])?;
    let behind = inside[end..].strip_prefix(close)?;
    Some((&inside[..end], behind))
}

/// Returns a template for the library that is equal to `text` after it is filled in. The text need not be Unicode.
pub fn literal(text: &OsStr) -> OsString {
    sys::map(text, |text| OWN.literal(text))
}

/// Returns a template of the library as the user wrote it.
pub fn shown(template: &str) -> String {
    let placeholder = |name: &str| OWN.has(name).then(|| format!("{{{name}}}").into());
    procref::fill_in(template, placeholder)
        .to_string_lossy()
        .into_owned()
}

/// Returns `true` if the library fills in a port in this template.
pub fn uses_port(template: &str) -> bool {
    template.replace("{{port}}", "").contains("{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        fill(template, OWN, |name| match name {
            "data" => Some("/d".to_owned()),
            "my db.port" => Some("5432".to_owned()),
            _ => None,
        })
    }

    /// Fills in the values from a file, and then the values that are known at the start.
    fn twice(template: &str, root: &str) -> String {
        let names = ["db".to_owned(), "a/b".to_owned()];
        let filled = fill(template, AtStart(&names), |name| {
            (name == "root").then(|| root.to_owned())
        });
        let at_start = |name: &str| match name {
            "port" => Some("1".into()),
            "dir" => Some(root.into()),
            "db.port" => Some("2".into()),
            "a/b.dir" => Some("/x".into()),
            _ => None,
        };
        let filled = procref::fill_in(filled, at_start);
        filled.into_string().expect("Unicode")
    }

    #[test]
    fn g7_values_are_never_filled_in_again() {
        for root in [
            "/{port}",
            "/{dir}",
            "/{root}",
            "/{db.port}",
            "/{a/b.dir}",
            "/{{port}}",
            "/{{{port}}}",
            "/{",
            "/}",
            "/{po",
            "/{{",
            "/}}",
            "/{port",
            "/port}",
            "/{db",
            "/%s $x 'a b' \"\n",
            "/{}{",
            "/{a",
            "/{d{port}b.port}",
            "",
        ] {
            for (template, expected) in [
                ("{root}", root.to_owned()),
                ("{root}/x", format!("{root}/x")),
                ("{root}:{port}", format!("{root}:1")),
                ("{db.port}{root}", format!("2{root}")),
                ("{root}rt}", format!("{root}rt}}")),
                ("{root}.port}", format!("{root}.port}}")),
                ("{root}/b.dir}", format!("{root}/b.dir}}")),
                (
                    "{{root}} {{port}} {{db.port}}",
                    "{root} {port} {db.port}".to_owned(),
                ),
                ("{dir}{a/b.dir}", format!("{root}/x")),
                ("{\"a\": {root}}", format!("{{\"a\": {root}}}")),
                ("{other.port} {x}", "{other.port} {x}".to_owned()),
            ] {
                assert_eq!(twice(template, root), expected, "{template} with {root:?}");
            }
        }
    }

    #[test]
    fn literal_is_filled_in_and_shown_as_the_same_text() {
        for text in [
            "{port}",
            "{{port}}",
            "{{{dir}}}",
            "{po",
            "{db.port}",
            "a{b}c",
        ] {
            let escaped = literal(OsStr::new(text));
            let filled = procref::fill_in(&escaped, |name| OWN.has(name).then(|| "?".into()));
            assert_eq!(filled, text);
            assert_eq!(shown(escaped.to_str().expect("Unicode")), text);
        }
    }

    #[test]
    fn many_opening_braces_take_linear_time() {
        let braces = "{".repeat(1 << 20);
        assert_eq!(filled(&braces), braces);
    }

    #[test]
    fn only_known_placeholders_are_filled_in() {
        for (template, expected) in [
            ("", ""),
            ("{data}/x{data}", "/d/x/d"),
            ("{my db.port}", "5432"),
            ("{{data}} {{{data}}}", "{data} {{data}}"),
            ("{port} {{port}} {dir}", "{port} {{port}} {dir}"),
            (r#"{"a": {"b": 1}} {}"#, r#"{"a": {"b": 1}} {}"#),
            ("{dat a} {data {{data} }} {ß", "{dat a} {data {/d }} {ß"),
        ] {
            assert_eq!(filled(template), expected, "{template}");
        }
    }

    #[test]
    fn uses_port_agrees_with_the_library() {
        for (template, used) in [
            ("{port}", true),
            ("{{port}}", false),
            ("{{port}}{port}", true),
            ("{{{port}}}", false),
            ("port", false),
        ] {
            assert_eq!(uses_port(template), used, "{template}");
        }
    }
}
