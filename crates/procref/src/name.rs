//! Names and namespaces: which processes meet, and over what.

use std::fmt;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use crate::error::{Error, Result};

/// Part of every namespace digest: processes of two layouts of the kernel object
/// must not meet on one object.
const LAYOUT_VERSION: u8 = 3;

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

    /// The digest as 15 lower-case hexadecimal digits, if `text` is that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let shaped = text.len() == DIGITS && text.chars().all(is_digit);
        let bits = shaped.then(|| u64::from_str_radix(text, 16).ok())?;
        bits.and_then(Self::from_bits)
    }
}

/// 15 lower-case hexadecimal digits, as in file names.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = DIGITS)
    }
}

/// The pids, the clock and the kernel objects that a process sees, as numbers.
///
/// A pid, a start time and the id of a kernel object mean something only to processes with equal views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View(pub(crate) [u64; Self::NUMBERS]);

impl View {
    /// Device and inode of three namespaces on Linux. On Windows the session, and zeros.
    const NUMBERS: usize = 6;
}

/// A runtime directory as one group of processes sees it.
///
/// Two processes meet if they have the same directory under the same path, and equal views.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    dir: Arc<Path>,
    identity: (u64, u64),
    view: View,
    digest: Digest,
}

impl Namespace {
    /// `identity` tells the directory from another one that has, or had, the same path:
    /// two processes that see different directories never meet.
    pub(crate) fn new(dir: PathBuf, identity: (u64, u64), view: View) -> Self {
        let seen: Vec<u8> = view.0.into_iter().flat_map(u64::to_le_bytes).collect();
        let digest = Digest::of(&[
            &[LAYOUT_VERSION],
            dir.as_os_str().as_encoded_bytes(),
            &identity.0.to_le_bytes(),
            &identity.1.to_le_bytes(),
            &seen,
        ]);
        Self {
            dir: dir.into(),
            identity,
            view,
            digest,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// What the process that opened the directory saw of the machine.
    pub(crate) fn view(&self) -> View {
        self.view
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
        let name = format!("(unknown name, {digest})");
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
    ///
    /// The digest of the namespace makes it another file in every view of one directory. It stands behind a
    /// dot, and not behind a dash: layouts before the third one had `SLUG-DIGEST`, and a process of such a
    /// layout removes what looks like a file of its own without a service.
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
        format!("{slug}-{}.{}", self.digest, self.namespace.digest)
    }
}

/// The digest of the service's name in a file's stem, if the stem has the shape of
/// [`ServiceKey::file_stem`] and the file is of this namespace.
pub(crate) fn digest_in_stem(stem: &str, namespace: &Namespace) -> Option<Digest> {
    let (name, space) = stem.split_once('.')?;
    let (slug, digest) = name.rsplit_once('-')?;
    let is_slug = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let shaped = (1..=SLUG).contains(&slug.len()) && slug.chars().all(is_slug);
    let ours = Digest::parse(space) == Some(namespace.digest);
    (shaped && ours).then(|| Digest::parse(digest))?
}

/// The same for the name of a file: a stem with an ending.
#[cfg(any(windows, test))]
pub(crate) fn digest_in_name(name: &str, namespace: &Namespace) -> Option<Digest> {
    let (end, _) = name.match_indices('.').nth(1)?;
    digest_in_stem(&name[..end], namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View([4, 101, 4, 102, 4, 103]);

    fn key(dir: &str, name: &str) -> ServiceKey {
        let namespace = Namespace::new(dir.into(), (1, 2), VIEW);
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
            assert!(stem.len() < 80, "{stem}");
            assert!(!stem.starts_with('.'), "{stem}");
            assert!(!stem.contains(['/', '\n']), "{stem}");
            let namespace = key("/d", "a").namespace;
            assert!(digest_in_stem(stem, &namespace).is_some(), "{stem}");
        }
        stems.sort();
        stems.dedup();
        assert_eq!(stems.len(), names.len());
    }

    #[test]
    fn other_stems_have_no_digest() {
        let namespace = key("/d", "a").namespace;
        let space = namespace.digest();
        let long = format!("{}-0123456789abcde", "x".repeat(SLUG + 1));
        for name in [
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
            for stem in [name.to_owned(), format!("{name}.{space}")] {
                assert_eq!(digest_in_stem(&stem, &namespace), None, "{stem}");
            }
        }
        let stem = format!("my-web_1-0123456789abcde.{space}");
        let digest = digest_in_stem(&stem, &namespace).unwrap();
        assert_eq!(digest.bits(), 0x0012_3456_789a_bcde);
        for ending in ["json", "log.1"] {
            let name = format!("{stem}.{ending}");
            assert_eq!(digest_in_name(&name, &namespace), Some(digest));
        }
        for space in [
            "",
            "0123456789abcde",
            &format!("{space}0"),
            &format!("{space}.{space}"),
        ] {
            let stem = format!("my-web_1-0123456789abcde.{space}");
            assert_eq!(digest_in_stem(&stem, &namespace), None, "{stem}");
        }
    }

    #[test]
    fn g1_every_part_of_a_view_makes_another_namespace_and_other_files() {
        let plain = key("/d", "web");
        let mut others = vec![key("/d2", "web")];
        let namespace = |identity, view| {
            let namespace = Namespace::new("/d".into(), identity, view);
            ServiceKey::new(namespace, Name::new("web").unwrap())
        };
        others.extend([(2, 2), (1, 3)].map(|identity| namespace(identity, VIEW)));
        for part in 0..View::NUMBERS {
            let mut view = VIEW;
            view.0[part] += 1;
            others.push(namespace((1, 2), view));
        }
        for other in others {
            assert_ne!(plain.digests(), other.digests());
            assert_ne!(plain.short(), other.short());
            let stem = other.file_stem();
            assert_ne!(plain.file_stem(), stem);
            assert_eq!(digest_in_stem(&stem, &plain.namespace), None, "{stem}");
            assert!(digest_in_stem(&stem, &other.namespace).is_some(), "{stem}");
        }
    }

    #[test]
    fn g6_an_older_layout_takes_no_file_name_for_its_own() {
        // What layout 2 took for a service's file: SLUG-DIGEST, with nothing behind it.
        for name in ["web", "a-0123456789abcde", &"x".repeat(255)] {
            let stem = key("/d", name).file_stem();
            let (_, digest) = stem.rsplit_once('-').unwrap();
            assert_eq!(Digest::parse(digest), None, "{stem}");
        }
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
                722_837_183_899_681_490,
                933_806_609_028_206_967,
                -2_079_210_357
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
            assert!(stem.len() < 80 && !stem.contains(['/', '\n']), "{stem}");
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
