//! Checks that services do not export different values for the same variable.

use super::ResolvedServices;
use crate::environment::variable_name;
use crate::error::{Error, Result};
use crate::text::shown;

/// Fails if two services export a variable, and the values may differ.
///
/// The export of a dependent replaces that of its dependency, so these two are no conflict. Neither are two dependencies
/// of one service.
pub(super) fn check(resolved: &ResolvedServices) -> Result<()> {
    for second in 0..resolved.services.len() {
        for first in (0..second).filter(|&first| !is_related(resolved, first, second)) {
            check_pair(resolved, first, second)?;
        }
    }
    Ok(())
}

/// Returns `true` if a service depends on the other one, or if one service depends on both.
fn is_related(resolved: &ResolvedServices, first: usize, second: usize) -> bool {
    let includes = |at: usize, other| at == other || resolved.needs(at).contains(&other);
    (0..resolved.services.len()).any(|at| includes(at, first) && includes(at, second))
}

fn check_pair(resolved: &ResolvedServices, first: usize, second: usize) -> Result<()> {
    let [one, other] = [first, second].map(|at| resolved.services[at].spec.name.as_str());
    let names = format!("services `{}` and `{}`", shown(one), shown(other));
    let suffix = variable_name(one);
    if suffix == variable_name(other) {
        return Err(Error::Conflict(format!(
            "{names} both set `PROCREF_PID_{suffix}` (rename one of the services, or run them one at a time)"
        )));
    }
    let others: Vec<_> = exported(resolved, second).collect();
    let conflict = exported(resolved, first).find(|(name, value)| {
        let mut others = others.iter().filter(|(other, _)| other == name);
        others.any(|(_, other)| other != value || has_placeholder(value))
    });
    match conflict {
        Some((name, _)) => Err(Error::Conflict(format!(
            "{names} both export `{}` (rename one of the variables in `export`, or run the services one at a time)",
            shown(name)
        ))),
        None => Ok(()),
    }
}

/// Returns the exports of a service that no dependent replaces.
fn exported(resolved: &ResolvedServices, at: usize) -> impl Iterator<Item = &(String, String)> {
    let dependents = resolved
        .services
        .iter()
        .filter(move |it| it.needs.contains(&at));
    let replaced: Vec<&str> = dependents
        .flat_map(|it| &it.spec.export)
        .map(|(name, _)| name.as_str())
        .collect();
    let own = resolved.services[at].spec.export.iter();
    own.filter(move |(name, _)| !replaced.contains(&name.as_str()))
}

/// Returns `true` if the value depends on the service.
fn has_placeholder(template: &str) -> bool {
    let filled = |value: &str| procref::fill_in(template, |_| Some(value.into()));
    filled("0") != filled("1")
}
