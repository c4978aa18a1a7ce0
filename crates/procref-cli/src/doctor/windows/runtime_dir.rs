//! The runtime directory: its owner, and the other users with access.

use std::path::Path;

use procref_winsys::security;

use crate::doctor::finding::{Finding, Severity, services};

const CHECK: &str = "runtime-directory";

pub(super) fn check(named: Option<&Path>) -> Vec<Finding> {
    let services = match services(CHECK, named) {
        Ok(services) => services,
        Err(found) => return vec![found],
    };
    let dir = services.dir();
    let shown = dir.display();
    if !dir.exists() {
        let found =
            format!("runtime directory: {shown}; the first service creates it, for this user only");
        return vec![Finding::ok(CHECK, found)];
    }
    let read = security::access(dir).and_then(|access| Ok((security::own_sid()?, access)));
    vec![match read {
        Ok((own, access)) => compare(&shown.to_string(), &own, &access),
        Err(error) => {
            let found =
                format!("runtime directory: {shown}; could not read its access list: {error}");
            Finding::new(CHECK, Severity::Warning, found)
        }
    }]
}

fn compare(dir: &str, own: &str, access: &str) -> Finding {
    let others = others(access, own);
    let owner = owner(access);
    if others.is_empty() {
        let found = format!("runtime directory: {dir}, owner {owner}, no access for other users");
        return Finding::ok(CHECK, found);
    }
    let found = format!(
        "runtime directory: {dir}, owner {owner}, access for other users: {}",
        others.join(", ")
    );
    let advice = "use `icacls`, or set another directory: PROCREF_RUNTIME_DIR or --runtime-dir";
    Finding::new(CHECK, Severity::Warning, found).advice(advice)
}

/// Returns the text between `O:` and the access list.
fn owner(access: &str) -> &str {
    let rest = access.strip_prefix("O:").unwrap_or(access);
    let end = rest.find("D:").unwrap_or(rest.len());
    &rest[..end]
}

/// Returns the users with access other than this user, the system (`SY`) and the administrators (`BA`), in the
/// [definition language](https://learn.microsoft.com/windows/win32/secauthz/ace-strings).
fn others<'a>(access: &'a str, own: &str) -> Vec<&'a str> {
    let Some((_, list)) = access.split_once("D:") else {
        // Without a list, all users have full access.
        return vec!["everyone"];
    };
    if list.starts_with("NO_ACCESS_CONTROL") {
        return vec!["everyone"];
    }
    let mut found = Vec::new();
    for entry in list.split('(').skip(1) {
        let fields: Vec<&str> = entry.trim_end_matches(')').split(';').collect();
        let [kind, _, rights, _, _, user, ..] = fields[..] else {
            continue;
        };
        let allows = kind.starts_with('A') && !matches!(rights, "" | "0x0");
        // CO stands for the creator of an entry, and only users with access can create entries.
        if allows && user != own && !["SY", "BA", "CO"].contains(&user) && !found.contains(&user) {
            found.push(user);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_lists_the_other_users_with_access() {
        let own = "S-1-5-21-1-2-3-1001";
        for (access, expected) in [
            (
                "O:S-1-5-21-1-2-3-1001D:P(A;OICI;FA;;;S-1-5-21-1-2-3-1001)",
                vec![],
            ),
            (
                "O:BAD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)",
                vec!["BU"],
            ),
            ("O:BAD:(D;;FA;;;WD)(A;;0x0;;;WD)", vec![]),
            ("O:BAD:NO_ACCESS_CONTROL", vec!["everyone"]),
            ("O:BA", vec!["everyone"]),
        ] {
            assert_eq!(others(access, own), expected, "{access}");
        }
        assert_eq!(owner("O:BAD:AI(A;ID;FA;;;SY)"), "BA");
    }
}
