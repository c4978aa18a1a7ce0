//! One adapter per contender, each the way its users do it, in the variant that favours it where there
//! is a choice. What one does not do shows in the table of facts, which is measured like all else.

pub mod current;
pub mod daemon;
pub mod dbus;
pub mod lockfile;
pub mod published;
pub mod python;
pub mod sqlite;
