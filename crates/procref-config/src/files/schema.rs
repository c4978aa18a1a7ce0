//! Parses the values of the keys of a configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use procref::{Mismatch, StopSignal};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use crate::value_parsers::{self, Port};

/// The table of a service.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ServiceKeys {
    pub(super) start: Option<CommandWords>,
    pub(super) init: Option<CommandWords>,
    pub(super) data: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) path: Vec<Spanned<String>>,
    pub(super) cwd: Option<PathBuf>,
    #[serde(default)]
    pub(super) env: BTreeMap<Spanned<String>, Spanned<Scalar>>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) env_file: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) export: BTreeMap<Spanned<String>, Spanned<Scalar>>,
    #[serde(default, deserialize_with = "text_or_number")]
    pub(super) port: Option<Port>,
    pub(super) ready: Option<Spanned<String>>,
    pub(super) health: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "interval")]
    pub(super) health_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "signal")]
    pub(super) stop_signal: Option<StopSignal>,
    #[serde(default, deserialize_with = "duration")]
    pub(super) grace: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub(super) linger: Option<Duration>,
    #[serde(default, deserialize_with = "interval")]
    pub(super) start_timeout: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    pub(super) wait_timeout: Option<Duration>,
    pub(super) log: Option<PathBuf>,
    pub(super) fingerprint: Option<String>,
    #[serde(default, deserialize_with = "mismatch")]
    pub(super) mismatch: Option<Mismatch>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) depends_on: Vec<Spanned<String>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) shared: Option<bool>,
    pub(super) cluster: Option<Spanned<String>>,
    pub(super) advertise: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "takeover")]
    pub(super) takeover: Option<String>,
    pub(super) at: Option<Spanned<String>>,
}

/// The table of a cluster.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ClusterKeys {
    pub(super) url: Spanned<String>,
    #[serde(default, deserialize_with = "interval")]
    pub(super) ttl: Option<Duration>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

/// A program and its arguments: one text with the quotes of a shell, or an array of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandWords(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for CommandWords {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = CommandWords;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: \"program argument\" or [\"program\", \"argument\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommandWords, E> {
                value_parsers::words(text)
                    .map(CommandWords)
                    .map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<CommandWords, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                match words.first().map(String::is_empty) {
                    Some(false) => Ok(CommandWords(words)),
                    _ => Err(de::Error::custom("the command names no program")),
                }
            }
        }

        from.deserialize_any(OneOrMany)
    }
}

/// The value of a variable: a text, or a number or a truth value as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyScalar;

        impl Visitor<'_> for AnyScalar {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
                // Unlike `Display`, `Debug` keeps the decimal point: 1.0 stays 1.0.
                Ok(Scalar(format!("{number:?}")))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }

        from.deserialize_any(AnyScalar)
    }
}

/// A text, or an array of texts with their positions.
enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an array of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany::Many(texts))
            }
        }

        from.deserialize_any(Either)
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Spanned<String>>, D::Error> {
    let written = Spanned::<OneOrMany>::deserialize(from)?;
    let span = written.span();
    Ok(match written.into_inner() {
        OneOrMany::One(text) => vec![Spanned::new(span, text)],
        OneOrMany::Many(texts) => texts,
    })
}

/// A visitor for a value that is written as text and has a parser.
struct TextVisitor<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
    value: PhantomData<T>,
}

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        (self.parse)(text).map(Some).map_err(E::custom)
    }
}

fn parse_text<'de, T, D: Deserializer<'de>>(
    from: D,
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    from.deserialize_any(TextVisitor {
        expected,
        parse,
        value: PhantomData,
    })
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parse_text(
        from,
        "a time with its unit, such as \"5s\"",
        value_parsers::duration,
    )
}

fn interval<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parse_text(
        from,
        "a time with its unit, such as \"5s\"",
        value_parsers::interval,
    )
}

fn signal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<StopSignal>, D::Error> {
    parse_text(
        from,
        "the name of a signal, such as \"SIGINT\"",
        value_parsers::signal,
    )
}

fn mismatch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Mismatch>, D::Error> {
    let expected = "\"refuse\", \"join\" or \"separate\"";
    parse_text(from, expected, |text| match text {
        "refuse" => Ok(Mismatch::Refuse),
        "join" => Ok(Mismatch::Join),
        "separate" => Ok(Mismatch::Separate),
        _ => Err(format!(
            "unknown action {text:?}; expected \"refuse\", \"join\" or \"separate\""
        )),
    })
}

fn takeover<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let expected = "\"lease\" or \"manual\"";
    parse_text(from, expected, |text| match text {
        "lease" | "manual" => Ok(text.to_owned()),
        _ => Err(format!(
            "unknown action {text:?}; expected \"lease\" or \"manual\""
        )),
    })
}

fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Port>, D::Error> {
    struct Either;

    impl Visitor<'_> for Either {
        type Value = Option<Port>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"auto\", or a number from 1 to 65535")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            value_parsers::port(text).map(Some).map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            self.visit_str(&number.to_string())
        }
    }

    from.deserialize_any(Either)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::keys::OF_SERVICE;

    #[test]
    fn listed_keys_equal_the_accepted_keys() {
        for key in OF_SERVICE {
            // The value is invalid for each key, but the key itself must be accepted.
            let error = toml::from_str::<ServiceKeys>(&format!("{key} = 1979-05-27"));
            let message = error
                .expect_err("no key accepts a date")
                .message()
                .to_owned();
            assert!(!message.contains("unknown field"), "{key}: {message}");
        }
        let error = toml::from_str::<ServiceKeys>("no-such-key = 1").expect_err("an unknown key");
        let listed = error.message().matches('`').count() / 2 - 1;
        assert_eq!(listed, OF_SERVICE.len(), "{}", error.message());
    }
}
