//! What can be seen from outside.

use std::fs;
use std::path::Path;

use procref_testkit::kernel;
use procref_testkit::observe::Identity;

use crate::site::Site;

/// The slots that are of interest, and the number of all.
const REFS: usize = 0;
const LOCK: usize = 1;
const PIN: usize = 4;

/// A process whose command line has one of these texts in it.
pub fn processes_with(texts: &[&str]) -> Vec<(Identity, String)> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != own)
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = texts.iter().any(|text| line.contains(text));
            let identity = Identity::of(pid).filter(|identity| ours && identity.is_live());
            identity.map(|identity| (identity, line))
        })
        .collect()
}

/// The service's supervisors.
pub fn supervisors(site: &Site) -> Vec<Identity> {
    let title = format!("procref: {}", site.name);
    let all = processes_with(&[&title]);
    let named = all.into_iter().filter(|(_, line)| line.trim_end() == title);
    named.map(|(identity, _)| identity).collect()
}

/// What a service's set says, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub clients: u32,
    pub locked: bool,
    pub pinned: bool,
}

pub fn counts(key: i32) -> Option<Counts> {
    let set = kernel::find(key)?;
    Some(Counts {
        clients: set.value(REFS).ok()?,
        locked: set.value(LOCK).ok()? > 0,
        pinned: set.value(PIN).ok()? > 0,
    })
}

/// Files in a runtime directory.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}
