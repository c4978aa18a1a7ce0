//! The counted object of a keeper: the table, the sessions of its clients, and the state file behind both.
//!
//! A *session* is one copy of procref in one process, identified by a nonce. Its changes are numbered. The ledger
//! stores the number of the last change of each session together with the change. So a client that has lost the
//! answer, because the keeper died, sends the same request again, and the change happens once. A request that changes
//! nothing is not remembered. If it is sent again and can be performed now, it has still happened once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::state::{Change, ClientEntry, Memory, State, Unusable};
use super::wire::LastPids;
use crate::kernel::semset::{Op, Values, Wait};
use crate::kernel::table::{Outcome, SlotTable, Undo, UndoOwner};
use crate::process::Identity;

/// One session of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) owner: UndoOwner,
    pub(crate) nonce: u64,
}

/// A request whose number is lower than that of the session's last change. No client sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// The counted object of a keeper.
pub(crate) struct Ledger<M> {
    state: State<M>,
    table: SlotTable,
    entries: Vec<Option<ClientEntry>>,
    /// The numbers of entries below the last one that are not used.
    free: Vec<usize>,
    /// The numbers of each owner's entries. The first one has the adjustments.
    owners: BTreeMap<UndoOwner, Vec<usize>>,
    changed_at: u64,
    removed: bool,
}

impl<M: Memory> Ledger<M> {
    /// Reads the object from its file.
    pub(crate) fn recover(state: State<M>) -> Result<Self, Unusable> {
        let contents = state.contents()?;
        let mut owners: BTreeMap<UndoOwner, Vec<usize>> = BTreeMap::new();
        let mut holders = BTreeMap::new();
        let mut free = Vec::new();
        for (index, entry) in contents.entries.iter().enumerate() {
            let Some(entry) = entry else {
                free.push(index);
                continue;
            };
            let numbers = owners.entry(entry.owner).or_default();
            if entry.undo.is_empty() {
                numbers.push(index);
                continue;
            }
            if holders.insert(entry.owner, entry.undo).is_some() {
                return Err(Unusable(
                    "it contains two entries with adjustments of one process",
                ));
            }
            numbers.insert(0, index);
        }
        Ok(Self {
            state,
            table: SlotTable::restore(contents.values, contents.last, holders),
            entries: contents.entries,
            free,
            owners,
            changed_at: contents.changed_at,
            removed: contents.removed,
        })
    }

    pub(crate) fn name_keeper(&mut self, keeper: Identity, socket: &[u8]) {
        self.state.name_keeper(keeper.pid, keeper.start, socket);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// Returns `true` if a new object would be the same.
    pub(crate) fn is_blank(&self) -> bool {
        self.owners.is_empty() && self.table.values().iter().all(|&value| value == 0)
    }

    pub(crate) fn values(&self) -> &Values {
        self.table.values()
    }

    pub(crate) fn last_pids(&self) -> LastPids {
        LastPids {
            pids: std::array::from_fn(|slot| self.table.last_pid(slot as u16)),
            changed_at: self.changed_at,
        }
    }

    /// Returns the processes that have entries.
    pub(crate) fn processes(&self) -> Vec<Identity> {
        let mut processes: Vec<Identity> = self.owners.keys().map(process_of).collect();
        processes.dedup();
        processes
    }

    pub(crate) fn has_entries(&self, process: Identity) -> bool {
        self.owners.range(roles_of(process)).next().is_some()
    }

    /// Returns the result that an array would have which sleeps and changes nothing.
    pub(crate) fn try_out(&self, owner: UndoOwner, ops: &[Op]) -> Outcome {
        match self.removed {
            true => Outcome::Gone,
            false => self.table.try_out(owner, ops, Wait::Yes),
        }
    }

    /// Performs an array, or refuses it. With [`Wait::Yes`], returns [`Outcome::Sleeps`] if it may be possible later.
    pub(crate) fn operate(
        &mut self,
        session: Session,
        seq: u64,
        (ops, wait): (&[Op], Wait),
        now: u64,
    ) -> Result<Outcome, Stale> {
        if self.removed {
            return Ok(Outcome::Gone);
        }
        let found = self.entry_of(session);
        if let Some(entry) = found.and_then(|index| self.entries[index]) {
            if seq == entry.seq {
                return Ok(Outcome::Done);
            }
            if seq < entry.seq {
                return Err(Stale);
            }
        }
        let index = found.unwrap_or_else(|| self.free_entry());
        // If the file cannot grow, the kernel has no room for another client.
        if self.state.reserve(index).is_err() {
            return Ok(Outcome::OutOfRange);
        }
        let outcome = self.table.operate(session.owner, ops, wait);
        if outcome != Outcome::Done {
            return Ok(outcome);
        }
        let own = ClientEntry {
            owner: session.owner,
            nonce: session.nonce,
            seq,
            undo: Undo::default(),
        };
        let numbers = self.owners.entry(session.owner).or_default();
        if found.is_none() {
            numbers.push(index);
        }
        let first = numbers[0];
        let undo = self.table.undo_of(session.owner);
        let written = match first == index {
            true => vec![(index, Some(ClientEntry { undo, ..own }))],
            false => {
                let first_entry = self.entries[first].map(|entry| ClientEntry { undo, ..entry });
                vec![(index, Some(own)), (first, first_entry)]
            }
        };
        let touched: Vec<u16> = ops.iter().map(|op| op.slot).collect();
        self.changed_at = now;
        self.commit(session.owner.pid, &touched, &written);
        Ok(Outcome::Done)
    }

    /// Marks the object as removed. Returns `false` if it was removed before.
    pub(crate) fn remove(&mut self, now: u64) -> bool {
        if std::mem::replace(&mut self.removed, true) {
            return false;
        }
        self.changed_at = now;
        self.commit(0, &[], &[]);
        true
    }

    /// Ends a process with all of its roles. Returns `false` if it had no sessions.
    pub(crate) fn end(&mut self, process: Identity, now: u64) -> bool {
        let owners = self.owners.range(roles_of(process));
        let ended: Vec<UndoOwner> = owners.map(|(&owner, _)| owner).collect();
        ended.iter().for_each(|&owner| self.end_owner(owner, now));
        !ended.is_empty()
    }

    /// Ends an owner: reverts its adjustments, and forgets its sessions.
    ///
    /// Each commit writes few entries. The entry with the adjustments is the last one, so that a successor ends the
    /// owner again if this keeper dies in between.
    pub(crate) fn end_owner(&mut self, owner: UndoOwner, now: u64) {
        let Some(numbers) = self.owners.remove(&owner) else {
            return;
        };
        for &index in numbers.iter().skip(1) {
            self.commit(0, &[], &[(index, None)]);
        }
        self.table.end(owner);
        self.changed_at = now;
        let first = numbers.first().map(|&index| (index, None));
        self.commit(0, &[], first.as_slice());
    }

    fn commit(&mut self, pid: u32, touched: &[u16], entries: &[(usize, Option<ClientEntry>)]) {
        for &(index, entry) in entries {
            if self.entries.len() == index {
                self.entries.push(None);
                self.free.push(index);
            }
            let before = std::mem::replace(&mut self.entries[index], entry);
            match (before, entry) {
                // A new entry is the last one of the list: see `free_entry`.
                (None, Some(_)) => drop(self.free.pop()),
                (Some(_), None) => self.free.push(index),
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
        self.state.commit(&Change {
            values: self.table.values(),
            touched,
            pid,
            entries,
            changed_at: self.changed_at,
            removed: self.removed,
        });
    }

    fn entry_of(&self, session: Session) -> Option<usize> {
        let numbers = self.owners.get(&session.owner)?;
        let is_own =
            |index: &usize| self.entries[*index].is_some_and(|entry| entry.nonce == session.nonce);
        numbers.iter().copied().find(is_own)
    }

    /// Returns the number of an entry that is not used.
    fn free_entry(&self) -> usize {
        self.free.last().copied().unwrap_or(self.entries.len())
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn into_memory(self) -> M {
        self.state.into_memory()
    }
}

/// Returns the range of a process with all of its roles.
fn roles_of(Identity { pid, start }: Identity) -> RangeInclusive<UndoOwner> {
    let owner = |role| UndoOwner { pid, start, role };
    owner(0)..=owner(u16::MAX)
}

fn process_of(owner: &UndoOwner) -> Identity {
    Identity {
        pid: owner.pid,
        start: owner.start,
    }
}

#[cfg(test)]
mod tests;
