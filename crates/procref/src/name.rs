//! Names and namespaces: which processes meet, and over what.

use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use crate::error::{Error, Result};

/// Part of every namespace digest: processes of two layouts of the kernel object
/// must not meet on one object.
const LAYOUT_VERSION: u8 = 2;

const MAX_NAME: usize = 255;

/// How much of a name a file name shows; the digest behind it makes it unique.
const SLUG: usize = 40;

/// Hexadecimal digits of a digest in a file name.
const DIGITS: usize = 15;

/// A 60-bit digest: four slots of 15 bits of a semaphore set. Never 0, which means "blank".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u64);

impl Digest {
    const BITS: u32 = 60;

    /// SipHash-2-4 with a fixed key: the same in every process, build and version.
    fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0x7072_6f63, 0x7265_6600);
        for part in parts {
            hasher.write_u64((part.len() as u64).to_le());
            hasher.write(part);
        }
        Self((hasher.finish() >> (64 - Self::BITS)).max(1))
    }

    /// One that was written down somewhere. `None`: it cannot be one.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0 && bits >> Self::BITS == 0).then_some(Self(bits))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

/// The directory two processes must share to meet, as a digest, with its path.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    dir: Arc<Path>,
    identity: (u64, u64),
    digest: Digest,
}

impl Namespace {
    /// `identity` tells the directory from another one that has, or had, the same path:
    /// two processes that see different directories never meet. `process_space` tells the
    /// pid namespaces apart: a pid means nothing in another one.
    pub(crate) fn new(dir: PathBuf, identity: (u64, u64), process_space: u64) -> Self {
        let digest = Digest::of(&[
            &[LAYOUT_VERSION],
            dir.as_os_str().as_encoded_bytes(),
            &identity.0.to_le_bytes(),
            &identity.1.to_le_bytes(),
            &process_space.to_le_bytes(),
        ]);
        Self {
            dir: dir.into(),
            identity,
            digest,
        }
    }

    #[cfg(any(unix, test))]
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Device and inode of the directory when it was opened.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A checked name: not empty, no NUL, at most 255 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Name(Arc<str>);

impl Name {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let refused = |reason| {
            let shown = name.chars().take(SLUG).collect();
            Err(Error::InvalidName {
                name: shown,
                reason,
            })
        };
        if name.is_empty() {
            return refused("it is empty");
        }
        if name.len() > MAX_NAME {
            return refused("it is longer than 255 bytes");
        }
        if name.contains('\0') {
            return refused("it has a NUL byte");
        }
        Ok(Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One service: a name in a namespace.
#[derive(Clone, Debug)]
pub(crate) struct ServiceKey {
    pub(crate) namespace: Namespace,
    pub(crate) name: Name,
    digest: Digest,
}

impl ServiceKey {
    pub(crate) fn new(namespace: Namespace, name: Name) -> Self {
        let digest = Digest::of(&[name.as_str().as_bytes()]);
        Self {
            namespace,
            name,
            digest,
        }
    }

    /// A service of which only its name's digest is known. It has no record that could be read: the
    /// name is in there.
    pub(crate) fn unnamed(namespace: Namespace, digest: Digest) -> Self {
        let name = format!("(unknown name, {:015x})", digest.bits());
        Self {
            namespace,
            name: Name(name.into()),
            digest,
        }
    }

    /// Another service of the same name: one that only who knows this fingerprint finds.
    pub(crate) fn separated(self, fingerprint: &str) -> Self {
        let digest = Digest::of(&[self.name().as_bytes(), fingerprint.as_bytes()]);
        Self { digest, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The digests of namespace and name: together they tell this service from every other.
    pub(crate) fn digests(&self) -> (Digest, Digest) {
        (self.namespace.digest, self.digest)
    }

    /// 32 bits for kernels whose names are that small. Never 0, which is `IPC_PRIVATE`.
    #[cfg(any(unix, test))]
    pub(crate) fn short(&self) -> i32 {
        let mixed = Digest::of(&[
            &self.namespace.digest.0.to_le_bytes(),
            &self.digest.0.to_le_bytes(),
        ]);
        match mixed.0 as u32 {
            0 => 1,
            bits => bits as i32,
        }
    }

    /// A file name that shows the name and cannot leave its directory.
    pub(crate) fn file_stem(&self) -> String {
        let slug: String = self
            .name()
            .chars()
            .take(SLUG)
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
                _ => '_',
            })
            .collect();
        format!("{slug}-{:015x}", self.digest.0)
    }
}

/// The digest in a file's stem, if the stem has the shape of [`ServiceKey::file_stem`].
pub(crate) fn digest_in_stem(stem: &str) -> Option<Digest> {
    let (slug, digest) = stem.rsplit_once('-')?;
    let is_slug = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let shaped = (1..=SLUG).contains(&slug.len())
        && slug.chars().all(is_slug)
        && digest.len() == DIGITS
        && digest.chars().all(is_digit);
    if !shaped {
        return None;
    }
    Digest::from_bits(u64::from_str_radix(digest, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dir: &str, name: &str) -> ServiceKey {
        let namespace = Namespace::new(dir.into(), (1, 2), 3);
        ServiceKey::new(namespace, Name::new(name).unwrap())
    }

    #[test]
    fn legal_names_are_anything_short_without_nul() {
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
    fn file_names_stay_in_their_directory_and_differ() {
        let names = [
            "..",
            "../x",
            "a/b",
            "a_b",
            "a\nb",
            "\u{1f418}",
            &"x".repeat(255),
        ];
        let mut stems: Vec<_> = names
            .iter()
            .map(|name| key("/d", name).file_stem())
            .collect();
        for stem in &stems {
            assert!(stem.len() < 64, "{stem}");
            assert!(!stem.contains(['/', '.', '\n']), "{stem}");
            assert!(digest_in_stem(stem).is_some(), "{stem}");
        }
        stems.sort();
        stems.dedup();
        assert_eq!(stems.len(), names.len());
    }

    #[test]
    fn other_stems_have_no_digest() {
        let long = format!("{}-0123456789abcde", "x".repeat(SLUG + 1));
        for stem in [
            "",
            "web",
            "web-",
            "-0123456789abcde",
            "web-0123456789abcd",
            "web-0123456789abcdef",
            "web-0123456789ABCDE",
            "web-000000000000000",
            "w b-0123456789abcde",
            "web.0123456789abcde",
            &long,
        ] {
            assert_eq!(digest_in_stem(stem), None, "{stem}");
        }
        let digest = digest_in_stem("my-web_1-0123456789abcde").unwrap();
        assert_eq!(digest.bits(), 0x0012_3456_789a_bcde);
    }

    #[test]
    fn digests_are_the_same_in_every_build() {
        // A change of these numbers is a change of the layout: processes of two versions
        // would run two instances side by side.
        let key = key("/run/user/1000/procref", "my-database");
        let (space, name) = key.digests();
        assert_eq!(
            (space.bits(), name.bits(), key.short()),
            (
                998_468_437_849_977_400,
                933_806_609_028_206_967,
                -1_850_716_119
            )
        );
    }

    #[test]
    fn separate_services_differ_from_each_other_and_from_the_plain_one() {
        let keys = [
            key("/d", "ab"),
            key("/d", "ab").separated("c"),
            key("/d", "a").separated("bc"),
            key("/d", "ab").separated(&"\0/\n".repeat(999)),
        ];
        for (index, one) in keys.iter().enumerate() {
            let stem = one.file_stem();
            assert!(stem.len() < 64 && !stem.contains(['/', '\n']), "{stem}");
            for other in &keys[..index] {
                assert_ne!(one.digests(), other.digests());
                assert_ne!(one.short(), other.short());
                assert_ne!(stem, other.file_stem());
            }
        }
        assert_eq!(keys[1].name(), "ab");
    }

    #[test]
    fn a_digest_fits_sixty_bits_and_parts_do_not_run_together() {
        assert!(Digest::of(&[b"abc"]).bits() < 1 << 60);
        assert_ne!(Digest::of(&[b"ab", b"c"]), Digest::of(&[b"a", b"bc"]));
    }
}
