//! The names of kernel objects on Windows.

use std::fmt;

/// The two digests in the name of a service's kernel objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    namespace: u64,
    name: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        write!(f, r"Local\procref-{namespace:015x}-{name:015x}")
    }
}

pub(crate) fn parse_key(name: &str) -> Key {
    let digests = name
        .strip_prefix(r"Local\procref-")
        .expect("a name of procref");
    let (namespace, name) = digests.split_once('-').expect("two digests");
    let number = |digits| u64::from_str_radix(digits, 16).expect("a digest is hexadecimal");
    Key {
        namespace: number(namespace),
        name: number(name),
    }
}
