//! Names of services, and digests of names.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use crate::error::{Error, Result};

const MAX_NAME: usize = 255;

/// The number of characters of a name that a file name shows. The digest after them makes the file name
/// unique.
pub(crate) const SLUG: usize = 40;

/// The number of hexadecimal digits of a digest in a file name.
const DIGITS: usize = 15;

/// A 60-bit digest. It fits in four slots of 15 bits of a semaphore set. It is never 0, which means "blank" there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u64);

impl Digest {
    const BITS: u32 = 60;

    /// Hashes the parts with SipHash-2-4 and a fixed key. The result is the same in every process, build and version.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0x7072_6f63, 0x7265_6600);
        for part in parts {
            hasher.write_u64((part.len() as u64).to_le());
            hasher.write(part);
        }
        Self((hasher.finish() >> (64 - Self::BITS)).max(1))
    }

    /// Returns the digest with these bits, or `None` if no digest has them.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0 && bits >> Self::BITS == 0).then_some(Self(bits))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Returns the digest that `text` shows as 15 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_digest = text.len() == DIGITS && text.chars().all(is_digit);
        let bits = is_digest.then(|| u64::from_str_radix(text, 16).ok())?;
        bits.and_then(Self::from_bits)
    }
}

/// Prints 15 lower-case hexadecimal digits, as in file names.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = DIGITS)
    }
}

/// A valid name: not empty, without NUL, and at most 255 bytes long.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub(crate) Arc<str>);

impl Name {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let invalid = |reason| {
            let shown = name.chars().take(SLUG).collect();
            Err(Error::InvalidName {
                name: shown,
                reason,
            })
        };
        if name.is_empty() {
            return invalid("it is empty");
        }
        if name.len() > MAX_NAME {
            return invalid("it is longer than 255 bytes");
        }
        if name.contains('\0') {
            return invalid("it contains a NUL byte");
        }
        Ok(Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_valid_when_short_and_without_nul() {
        for name in [
            "a",
            "..",
            "../../etc/passwd",
            "a b\n\u{1f418}",
            &"x".repeat(255),
        ] {
            assert_eq!(Name::new(name).unwrap().as_str(), name);
        }
        for name in ["", "nul\0byte", &"x".repeat(256)] {
            assert!(matches!(Name::new(name), Err(Error::InvalidName { .. })));
        }
    }

    #[test]
    fn digest_has_60_bits_and_separates_its_parts() {
        assert!(Digest::of(&[b"abc"]).bits() < 1 << 60);
        assert_ne!(Digest::of(&[b"ab", b"c"]), Digest::of(&[b"a", b"bc"]));
    }
}
