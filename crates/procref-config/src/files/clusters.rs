//! The clusters of a file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::Files;
use super::diagnostic::{Diagnostic, SourceText, suggestion};
use super::schema::ClusterKeys;
use crate::cluster::{add_option, check_url};

/// The URLs of clusters by their names.
pub(super) type Clusters = BTreeMap<String, String>;

/// Returns the clusters of a file. Appends their errors to `diagnostics`.
pub(super) fn read(
    written: &[(Spanned<String>, ClusterKeys)],
    source: SourceText<'_>,
    root: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Clusters {
    let mut clusters = Clusters::new();
    for (name, keys) in written {
        match url(keys, root) {
            Ok(url) => {
                clusters.insert(name.get_ref().clone(), url);
            }
            Err((at, reason)) => {
                let at = at.unwrap_or_else(|| name.span());
                let message = format!("cluster `{}`: {reason}", name.get_ref());
                diagnostics.push(source.diagnostic(Some(at), message));
            }
        }
    }
    clusters
}

/// Returns the URL of a cluster with all its options. Paths are relative to the directory of the file.
fn url(keys: &ClusterKeys, root: &Path) -> Result<String, (Option<Range<usize>>, String)> {
    let mut url = keys.url.get_ref().clone();
    check_url(&url).map_err(|reason| (Some(keys.url.span()), reason))?;
    if let Some(ttl) = keys.ttl {
        if ttl.subsec_nanos() != 0 {
            return Err((None, "`ttl` is not a number of whole seconds".to_owned()));
        }
        add_option(&mut url, "ttl", &format!("{}s", ttl.as_secs()));
    }
    if let Some(user) = &keys.user {
        add_option(&mut url, "user", user);
    }
    let paths = [
        ("password-file", &keys.password_file),
        ("ca", &keys.ca),
        ("cert", &keys.cert),
        ("key", &keys.key),
    ];
    for (name, path) in [("user", &keys.user)].into_iter().chain(paths) {
        if path.as_deref() == Some("") {
            return Err((None, format!("`{name}` is empty")));
        }
    }
    for (name, path) in paths {
        let Some(path) = path else { continue };
        let path = root.join(path);
        let path = path.to_str().ok_or_else(|| {
            let what = "the path of the file's directory is not UTF-8";
            (None, what.to_owned())
        })?;
        add_option(&mut url, name, path);
    }
    Ok(url)
}

/// Returns the URL that a text stands for: the URL itself, or the name of a cluster.
pub(super) fn find(text: &str, clusters: &Clusters) -> Result<String, String> {
    if text.contains("://") {
        return check_url(text).map(|()| text.to_owned());
    }
    clusters.get(text).cloned().ok_or_else(|| {
        let suggested = suggestion(text, clusters.keys().map(String::as_str));
        format!(
            "unknown cluster `{text}`{suggested} (describe it as [clusters.{text}], or write a URL)"
        )
    })
}

impl Files {
    /// Returns the URL that a text stands for: the URL itself, or the name of a cluster.
    ///
    /// # Errors
    ///
    /// Returns the reason if the text is neither.
    pub fn cluster(&self, text: &str) -> Result<String, String> {
        let mut clusters = Clusters::new();
        // The project's clusters replace those of the user.
        for file in self.user.iter().chain(&self.project) {
            clusters.extend(file.clusters.clone());
        }
        find(text, &clusters)
    }
}
