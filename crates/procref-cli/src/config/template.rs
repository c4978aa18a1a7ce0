//! `{data}`, `{root}` and `{SERVICE.port}`, which a configuration file has beside the library's `{port}`
//! and `{dir}`.

/// The text with each `{name}` that `value_of` knows filled in, and `{{name}}` as `{name}`. Every other
/// brace is what it is.
pub(crate) fn fill(template: &str, value_of: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(brace) = rest.find('{') {
        let (before, from) = rest.split_at(brace);
        filled.push_str(before);
        if let Some((name, behind)) =
            named(from, "{{", "}}").filter(|(name, _)| value_of(name).is_some())
        {
            filled.push('{');
            filled.push_str(name);
            filled.push('}');
            rest = behind;
        } else if let Some((value, behind)) =
            named(from, "{", "}").and_then(|(name, behind)| Some((value_of(name)?, behind)))
        {
            filled.push_str(&value);
            rest = behind;
        } else {
            filled.push('{');
            rest = &from[1..];
        }
    }
    filled.push_str(rest);
    filled
}

/// What stands between the braces that the text begins with, and what follows them.
fn named<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inside = text.strip_prefix(open)?;
    let (name, behind) = inside.split_once(close)?;
    (!name.contains(['{', '}'])).then_some((name, behind))
}

/// A text that stands for itself where the library fills in `{port}` and `{dir}`.
pub(crate) fn literal(text: &str) -> String {
    text.replace("{port}", "{{port}}")
        .replace("{dir}", "{{dir}}")
}

/// Whether the library will fill in a port.
pub(crate) fn uses_port(template: &str) -> bool {
    template.replace("{{port}}", "").contains("{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        fill(template, |name| match name {
            "data" => Some("/d".to_owned()),
            "my db.port" => Some("5432".to_owned()),
            _ => None,
        })
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
