//! The key of a service: its name in a namespace.

use crate::name::{Digest, Name, SLUG};
use crate::namespace::Namespace;

/// The key of one service.
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

    /// Returns the key of a service with an unknown name, from the digest of the name. Its record cannot be
    /// read, because the path of a record contains the name.
    pub(crate) fn unnamed(namespace: Namespace, digest: Digest) -> Self {
        let name = format!("(unknown name, {digest})");
        Self {
            namespace,
            name: Name(name.into()),
            digest,
        }
    }

    /// Returns the key of another service with the same name. Only clients with this fingerprint find it.
    pub(crate) fn separated(self, fingerprint: &str) -> Self {
        let digest = Digest::of(&[self.name().as_bytes(), fingerprint.as_bytes()]);
        Self { digest, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns the digests of namespace and name. Together they distinguish this service from all others.
    pub(crate) fn digests(&self) -> (Digest, Digest) {
        (self.namespace.digest(), self.digest)
    }

    /// Returns 32 bits, for kernels with short names. They are never 0, which is `IPC_PRIVATE`.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn short(&self) -> i32 {
        let mixed = Digest::of(&[
            &self.namespace.digest().bits().to_le_bytes(),
            &self.digest.bits().to_le_bytes(),
        ]);
        match mixed.bits() as u32 {
            0 => 1,
            bits => bits as i32,
        }
    }

    /// Returns a file name that shows the service's name. It contains no separator, so the file is in the runtime
    /// directory.
    ///
    /// The digest of the namespace makes the file name different in every view of one directory. It follows a
    /// dot, not a dash. Layouts 1 and 2 had file names of the form `SLUG-DIGEST`, and a process of such a
    /// layout removes files of that form that have no service.
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
        format!("{slug}-{}.{}", self.digest, self.namespace.digest())
    }
}

/// Returns the digest of the service's name, if the stem has the form of [`ServiceKey::file_stem`] and belongs to
/// this namespace.
pub(crate) fn digest_in_stem(stem: &str, namespace: &Namespace) -> Option<Digest> {
    let (name, space) = stem.split_once('.')?;
    let (slug, digest) = name.rsplit_once('-')?;
    let is_slug = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_stem = (1..=SLUG).contains(&slug.len()) && slug.chars().all(is_slug);
    let is_ours = Digest::parse(space) == Some(namespace.digest());
    (is_stem && is_ours).then(|| Digest::parse(digest))?
}

/// Like [`digest_in_stem`], for the name of a file: a stem and an extension.
#[cfg(any(windows, test))]
pub(crate) fn digest_in_name(name: &str, namespace: &Namespace) -> Option<Digest> {
    let (end, _) = name.match_indices('.').nth(1)?;
    digest_in_stem(&name[..end], namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::View;

    const VIEW: View = View([4, 101, 4, 102, 4, 103]);

    fn key(dir: &str, name: &str) -> ServiceKey {
        let namespace = Namespace::new(dir.into(), (1, 2), VIEW);
        ServiceKey::new(namespace, Name::new(name).unwrap())
    }

    #[test]
    fn file_stem_is_unique_and_has_no_separator() {
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
    fn stem_of_another_form_has_no_digest() {
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
    fn g1_each_part_of_a_view_changes_namespace_and_files() {
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
    fn g6_file_stem_is_foreign_to_older_layouts() {
        // Layout 2 treated names of the form SLUG-DIGEST as files of a service.
        for name in ["web", "a-0123456789abcde", &"x".repeat(255)] {
            let stem = key("/d", name).file_stem();
            let (_, digest) = stem.rsplit_once('-').unwrap();
            assert_eq!(Digest::parse(digest), None, "{stem}");
        }
    }

    #[test]
    fn digests_are_equal_in_every_build() {
        // If these numbers change, the layout changes, and processes of two versions would run two instances
        // at the same time.
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
    fn separated_services_differ_from_each_other_and_the_plain_one() {
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
}
