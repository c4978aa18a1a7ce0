//! `{data}`, `{root}` and `{SERVICE.port}`, which a configuration file has beside the library's `{port}`
//! and `{dir}`.
//!
//! A text is filled in twice: with what the file says when that is read, and with ports and runtime directories when
//! the service starts. A value must not be treated as a template: the path of a project may have `{port}` in it.
//! So the first pass escapes everything that stands for itself, and the second pass fills in all the rest at once.

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
pub(crate) struct AtStart<'a>(pub(crate) &'a [String]);

/// Those that the library fills in.
pub(crate) const OWN: AtStart<'static> = AtStart(&[]);

impl AtStart<'_> {
    fn has(self, place: &str) -> bool {
        matches!(place, "port" | "dir") || self.has_dependency(place)
    }

    /// The name and `port` or `dir`, if the placeholder is one of another service.
    pub(crate) fn dependency(self, place: &str) -> Option<(&str, &str)> {
        let (name, what) = place.rsplit_once('.')?;
        let is_known = !name.contains('{') && self.0.iter().any(|known| known == name);
        (is_known && matches!(what, "port" | "dir")).then_some((name, what))
    }

    fn has_dependency(self, place: &str) -> bool {
        self.dependency(place).is_some()
    }

    /// A text that stands for itself when these are filled in.
    pub(crate) fn literal(self, text: &str) -> String {
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

    /// Whether there is a placeholder of a service that this one depends on, escaped or not.
    pub(crate) fn mentions_dependency(self, template: &str) -> bool {
        let braces = template.match_indices('{');
        braces
            .filter_map(|(at, _)| named(&template[at..], "{", "}"))
            .any(|(name, _)| self.has_dependency(name))
    }
}

/// The text with each `{name}` that `value_of` knows filled in, as a template for what is filled in `at_start`:
/// the values stand for themselves there. `{{name}}` of a name that is known to either stands for `{name}`. Every
/// other brace is what it is.
pub(crate) fn fill(
    template: &str,
    at_start: AtStart<'_>,
    value_of: impl Fn(&str) -> Option<String>,
) -> String {
    let mut filled = String::with_capacity(template.len());
    // What stands for itself and is not escaped yet. A value and the text beside it can look like a
    // placeholder only together.
    let mut itself = String::new();
    let mut rest = template;
    while let Some(brace) = rest.find('{') {
        let (before, from) = rest.split_at(brace);
        itself.push_str(before);
        let is_known = |name: &str| at_start.has(name) || value_of(name).is_some();
        if let Some((name, behind)) = named(from, "{{", "}}").filter(|(name, _)| is_known(name)) {
            itself.push('{');
            itself.push_str(name);
            itself.push('}');
            rest = behind;
        } else if let Some((name, behind)) =
            named(from, "{", "}").filter(|(name, _)| is_known(name))
        {
            match value_of(name) {
                Some(value) => itself.push_str(&value),
                None => {
                    filled.push_str(&at_start.literal(&std::mem::take(&mut itself)));
                    filled.push('{');
                    filled.push_str(name);
                    filled.push('}');
                }
            }
            rest = behind;
        } else {
            itself.push('{');
            rest = &from[1..];
        }
    }
    itself.push_str(rest);
    filled.push_str(&at_start.literal(&itself));
    filled
}

/// Whether the placeholder is in the text, and not escaped.
pub(crate) fn uses(template: &str, place: &str) -> bool {
    let with = |value: &str| {
        fill(template, OWN, |name| {
            (name == place).then(|| value.to_owned())
        })
    };
    with("0") != with("1")
}

/// What stands between the braces that the text begins with, and what follows them.
fn named<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inside = text.strip_prefix(open)?;
    // No name has a brace in it. With one, many open braces would be a square of looks.
    let end = inside.find(['{', '}'])?;
    let behind = inside[end..].strip_prefix(close)?;
    Some((&inside[..end], behind))
}

/// [`literal`](AtStart::literal) for the library, of a text that need not be Unicode.
pub(crate) fn literal(text: &OsStr) -> OsString {
    sys::map(text, |text| OWN.literal(text))
}

/// A template of the library's as people wrote it.
pub(crate) fn shown(template: &str) -> String {
    let itself = |name: &str| OWN.has(name).then(|| format!("{{{name}}}").into());
    procref::fill_in(template, itself)
        .to_string_lossy()
        .into_owned()
}

/// Whether the library will fill in a port.
pub(crate) fn uses_port(template: &str) -> bool {
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

    /// Fills in what a file says, and then what is known at the start.
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
    fn a_literal_stands_for_itself_and_is_shown_as_it_was() {
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
    fn many_open_braces_take_no_time() {
        let braces = "{".repeat(1 << 20);
        assert_eq!(filled(&braces), braces);
    }

    #[test]
    fn only_what_is_known_is_filled_in() {
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
    fn a_port_is_used_where_the_library_uses_it() {
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
