//! The runtime directory: whose it is, and who else gets in.

use std::path::Path;

use crate::doctor::{Finding, Severity, services};

const CHECK: &str = "runtime-directory";

pub(super) fn look(named: Option<&Path>) -> Vec<Finding> {
    let services = match services(CHECK, named) {
        Ok(services) => services,
        Err(found) => return vec![found],
    };
    let dir = services.dir();
    let shown = dir.display();
    if !dir.exists() {
        let found = format!(
            "runtime directory: {shown}, which the first service creates, for this user alone"
        );
        return vec![Finding::ok(CHECK, found)];
    }
    let looked =
        procref::windows::access(dir).and_then(|access| Ok((procref::windows::own_sid()?, access)));
    vec![match looked {
        Ok((own, access)) => judged(&shown.to_string(), &own, &access),
        Err(error) => {
            let found =
                format!("runtime directory: {shown}, and who gets in is not to be seen: {error}");
            Finding::new(CHECK, Severity::Warning, found)
        }
    }]
}

fn judged(dir: &str, own: &str, access: &str) -> Finding {
    let others = others(access, own);
    let owner = owner(access);
    if others.is_empty() {
        let found = format!("runtime directory: {dir}, of {owner}, and nobody else gets in");
        return Finding::ok(CHECK, found);
    }
    let found = format!(
        "runtime directory: {dir}, of {owner}; others have rights in it, too: {}",
        others.join(", ")
    );
    let advice = "see `icacls`, or name another one: PROCREF_RUNTIME_DIR, or --runtime-dir";
    Finding::new(CHECK, Severity::Warning, found).advice(advice)
}

/// What stands between `O:` and the access list.
fn owner(access: &str) -> &str {
    let rest = access.strip_prefix("O:").unwrap_or(access);
    let end = rest.find("D:").unwrap_or(rest.len());
    &rest[..end]
}

/// Who is let in besides this user, the system (`SY`) and the administrators (`BA`), as the
/// [definition language](https://learn.microsoft.com/windows/win32/secauthz/ace-strings) writes them.
fn others<'a>(access: &'a str, own: &str) -> Vec<&'a str> {
    let Some((_, list)) = access.split_once("D:") else {
        // Without a list everybody may do everything.
        return vec!["everybody"];
    };
    if list.starts_with("NO_ACCESS_CONTROL") {
        return vec!["everybody"];
    }
    let mut found = Vec::new();
    for entry in list.split('(').skip(1) {
        let fields: Vec<&str> = entry.trim_end_matches(')').split(';').collect();
        let [kind, _, rights, _, _, who, ..] = fields[..] else {
            continue;
        };
        let allows = kind.starts_with('A') && !matches!(rights, "" | "0x0");
        // CO, whoever creates something in it, is the user who may do so.
        if allows && who != own && !["SY", "BA", "CO"].contains(&who) && !found.contains(&who) {
            found.push(who);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_in_besides_the_user_is_told() {
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
            ("O:BAD:NO_ACCESS_CONTROL", vec!["everybody"]),
            ("O:BA", vec!["everybody"]),
        ] {
            assert_eq!(others(access, own), expected, "{access}");
        }
        assert_eq!(owner("O:BAD:AI(A;ID;FA;;;SY)"), "BA");
    }
}
