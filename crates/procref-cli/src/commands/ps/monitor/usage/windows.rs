//! Windows has no tree of processes: a process does not record which descendants belong to it.

use std::collections::HashSet;

use super::TreeUsage;

/// `true` if [`tree_usage`] returns values.
pub(in super::super) const IS_AVAILABLE: bool = false;

pub(super) fn tree_usage(_: Option<u32>, _: Option<u32>, _: &HashSet<u32>) -> Option<TreeUsage> {
    None
}
