//! The state file: the memory of a counted object, which survives the death of its keeper.
//!
//! Only the keeper maps and writes the file. Clients read the header. The file consists of words of 64 bits:
//!
//! ```text
//! word 0        magic number, with the version of the layout. 0 while the file is being initialized
//!      1, 2     number of committed changes, number of applied changes
//!      3        1 after the object was removed
//!      4        digest of the boot id
//!      5, 6     pid and start time of the keeper
//!      7        time of the last change, in seconds since the Unix epoch
//!      8 ..     redo record: the values and entries after one change
//!      128 ..   values: u16 each
//!      161 ..   last pids: u32 each
//!      226 ..   path of the socket, padded with NUL
//!      512 ..   client entries: 8 words each
//! ```
//!
//! A change is written to the redo record first. Then `committed` is increased: from this store on, the change has
//! happened. Then the change is written to the other areas, and `applied` is increased. If the keeper dies in between,
//! its successor applies the record again. The record contains values, not differences, so this is idempotent.
//!
//! The stores of a killed process to a shared mapping persist. They do not survive a power cut in order, so a file of
//! another boot is void.

use std::io;
use std::ops::RangeInclusive;

use crate::crash::{self, Point};
use crate::kernel::semset::{MAX_VALUE, Values, slot};
use crate::kernel::table::{Adjustment, MAX_ADJUSTMENTS, Undo, UndoOwner};

/// "procref" in ASCII, and the version of the layout.
const MAGIC: u64 = 0x7072_6f63_7265_6621;

const COMMITTED: usize = 1;
const APPLIED: usize = 2;
const REMOVED: usize = 3;
const BOOT: usize = 4;
const KEEPER: usize = 5;
const CHANGED_AT: usize = 7;
const RECORD: usize = 8;
const VALUES: usize = 128;
const LAST: usize = VALUES + VALUE_WORDS;
const SOCKET: usize = LAST + LAST_WORDS;
const CLIENTS: usize = 512;

const SLOTS: usize = slot::COUNT as usize;
const VALUE_WORDS: usize = SLOTS.div_ceil(4);
const LAST_WORDS: usize = SLOTS.div_ceil(2);
const SOCKET_WORDS: usize = 13;
const ENTRY_WORDS: usize = 8;
const TOUCHED_WORDS: usize = SLOTS.div_ceil(64);

// The parts of the redo record.
const ENTRY_COUNT: usize = RECORD;
const ENTRIES: usize = RECORD + 1;
const NEW_REMOVED: usize = ENTRIES + MAX_ENTRIES * (1 + ENTRY_WORDS);
const NEW_CHANGED_AT: usize = NEW_REMOVED + 1;
const NEW_PID: usize = NEW_REMOVED + 2;
const TOUCHED: usize = NEW_REMOVED + 3;
const NEW_VALUES: usize = TOUCHED + TOUCHED_WORDS;

const _: () = assert!(NEW_VALUES + VALUE_WORDS <= VALUES);
const _: () = assert!(SOCKET + SOCKET_WORDS <= CLIENTS);

/// The number of entries that one change can write.
pub(crate) const MAX_ENTRIES: usize = 2;

/// The number of words of a new file.
pub(crate) const MIN_WORDS: usize = 1024;

/// The number of words of the largest file: 65,536 entries.
pub(crate) const MAX_WORDS: usize = CLIENTS + ENTRY_WORDS * (1 << 16);

/// The sizes that a file can have, in bytes. A new file is empty.
pub(crate) const SIZES: RangeInclusive<u64> = 8 * MIN_WORDS as u64..=8 * MAX_WORDS as u64;

/// The length of the part of a file that clients read, in bytes.
pub(crate) const HEADER_LENGTH: usize = 8 * CLIENTS;

/// The length of the longest path of a socket, in bytes.
pub(crate) const MAX_SOCKET: usize = 8 * SOCKET_WORDS - 1;

/// Words that outlive the process that stores them.
///
/// If the process dies, the memory contains the stores before the death, in their order.
pub(crate) trait Memory {
    /// Returns 0 for a word beyond the end.
    fn load(&self, word: usize) -> u64;

    /// Stores a word that exists.
    fn store(&mut self, word: usize, value: u64);

    fn words(&self) -> usize;

    /// Adds zeros at the end.
    fn grow(&mut self, words: usize) -> io::Result<()>;
}

/// The bytes of a file.
impl Memory for Vec<u8> {
    fn load(&self, word: usize) -> u64 {
        let bytes = self.get(8 * word..8 * word + 8).unwrap_or(&[0; 8]);
        u64::from_le_bytes(bytes.try_into().unwrap_or_default())
    }

    fn store(&mut self, word: usize, value: u64) {
        self[8 * word..8 * word + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn words(&self) -> usize {
        self.len() / 8
    }

    fn grow(&mut self, words: usize) -> io::Result<()> {
        self.resize(8 * words, 0);
        Ok(())
    }
}

/// The reason why a file cannot be the state of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable(pub(crate) &'static str);

/// The state of a file according to its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// No keeper has initialized the file in this boot.
    Blank,
    InUse,
    /// The object was removed, and its keeper died before it unlinked the file.
    Removed,
}

/// Returns the state of a file according to its header.
pub(crate) fn condition(memory: &impl Memory, boot: u64) -> Result<Condition, Unusable> {
    match memory.load(0) {
        0 => Ok(Condition::Blank),
        // The version of the layout is the lowest byte.
        magic if magic >> 8 != MAGIC >> 8 => Err(Unusable("it is not a state file of procref")),
        magic if magic != MAGIC => Err(Unusable("another version of procref has written it")),
        _ if memory.load(BOOT) != boot => Ok(Condition::Blank),
        _ if memory.load(REMOVED) != 0 => Ok(Condition::Removed),
        _ => Ok(Condition::InUse),
    }
}

/// Returns `true` if a new object would be the same as that of this file. Only a process that has the lock may rely on it.
pub(crate) fn is_unused(memory: &impl Memory, boot: u64) -> bool {
    match condition(memory, boot) {
        Ok(Condition::Blank | Condition::Removed) => true,
        // A change that is not applied yet would be the difference.
        Ok(Condition::InUse) => {
            memory.load(COMMITTED) == memory.load(APPLIED)
                && values(memory).iter().all(|&value| value == 0)
        }
        Err(_) => false,
    }
}

/// Returns pid and start time of the keeper that used the file last. They are 0 in a blank file.
pub(crate) fn keeper(memory: &impl Memory) -> (u32, u64) {
    (memory.load(KEEPER) as u32, memory.load(KEEPER + 1))
}

/// Returns the path of the socket, which is empty in a blank file.
pub(crate) fn socket(memory: &impl Memory) -> Vec<u8> {
    let words = (SOCKET..SOCKET + SOCKET_WORDS).map(|word| memory.load(word));
    let bytes = words.flat_map(u64::to_le_bytes);
    bytes.take_while(|&byte| byte != 0).collect()
}

/// Returns the values in the file. They may be those in the middle of a change.
pub(crate) fn values(memory: &impl Memory) -> Values {
    unpack_values(memory, VALUES)
}

fn unpack_values(memory: &impl Memory, first: usize) -> Values {
    std::array::from_fn(|slot| (memory.load(first + slot / 4) >> (16 * (slot % 4))) as u16)
}

fn pack_values(values: &Values) -> [u64; VALUE_WORDS] {
    let mut words = [0; VALUE_WORDS];
    for (slot, &value) in values.iter().enumerate() {
        words[slot / 4] |= u64::from(value) << (16 * (slot % 4));
    }
    words
}

/// The data about one session of a client, or about one role of the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientEntry {
    pub(crate) owner: UndoOwner,
    pub(crate) nonce: u64,
    /// The number of the last change of the session.
    pub(crate) seq: u64,
    /// The adjustments of the owner. Only the first entry of an owner has any.
    pub(crate) undo: Undo,
}

const USED: u64 = 1 << 48;

impl ClientEntry {
    fn encode(entry: Option<&Self>) -> [u64; ENTRY_WORDS] {
        let mut words = [0; ENTRY_WORDS];
        let Some(entry) = entry else {
            return words;
        };
        let UndoOwner { pid, start, role } = entry.owner;
        words[0] = u64::from(pid) | u64::from(role) << 32 | USED;
        words[1] = start;
        words[2] = entry.nonce;
        words[3] = entry.seq;
        words[4] = entry.undo.adjustments().len() as u64;
        for (index, it) in entry.undo.adjustments().iter().enumerate() {
            let pair = u64::from(it.slot) | u64::from(it.delta as u16) << 16;
            words[5 + index / 2] |= pair << (32 * (index % 2));
        }
        words
    }

    fn decode(words: [u64; ENTRY_WORDS]) -> Result<Option<Self>, Unusable> {
        match words[0] >> 48 {
            0 => return Ok(None),
            1 => {}
            _ => return Err(Unusable("it contains an entry of an unknown kind")),
        }
        let adjustment = |index: usize| {
            let pair = (words[5 + index / 2] >> (32 * (index % 2))) as u32;
            Adjustment {
                slot: pair as u16,
                delta: (pair >> 16) as u16 as i16,
            }
        };
        let length = usize::try_from(words[4]).unwrap_or(usize::MAX);
        let undo = (length <= MAX_ADJUSTMENTS)
            .then(|| (0..length).map(adjustment))
            .and_then(Undo::from_adjustments);
        Ok(Some(Self {
            owner: UndoOwner {
                pid: words[0] as u32,
                start: words[1],
                role: (words[0] >> 32) as u16,
            },
            nonce: words[2],
            seq: words[3],
            undo: undo.ok_or(Unusable("it contains an entry with wrong adjustments"))?,
        }))
    }
}

/// A change of the object. All of it happens, or none.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) values: &'a Values,
    /// The slots whose last pid becomes `pid`.
    pub(crate) touched: &'a [u16],
    pub(crate) pid: u32,
    /// The entries that are written, by their numbers. At most [`MAX_ENTRIES`].
    pub(crate) entries: &'a [(usize, Option<ClientEntry>)],
    pub(crate) changed_at: u64,
    pub(crate) removed: bool,
}

/// The contents of a state file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) values: Values,
    pub(crate) last: [u32; SLOTS],
    pub(crate) entries: Vec<Option<ClientEntry>>,
    pub(crate) changed_at: u64,
    pub(crate) removed: bool,
}

/// The state file of an object, as its keeper uses it.
#[derive(Debug)]
pub(crate) struct State<M>(M);

impl<M: Memory> State<M> {
    /// Initializes a blank file, or completes the last change of an earlier keeper.
    pub(crate) fn open(mut memory: M, boot: u64) -> Result<Self, Unusable> {
        if !(MIN_WORDS..=MAX_WORDS).contains(&memory.words()) {
            return Err(Unusable("it has a wrong size"));
        }
        if condition(&memory, boot)? == Condition::Blank {
            put(&mut memory, 0, 0);
            for word in 1..memory.words() {
                put(&mut memory, word, 0);
            }
            memory.store(BOOT, boot);
            memory.store(0, MAGIC);
        }
        let mut state = Self(memory);
        let (committed, applied) = (state.0.load(COMMITTED), state.0.load(APPLIED));
        if committed != applied {
            if committed != applied.wrapping_add(1) {
                return Err(Unusable("its numbers of changes contradict each other"));
            }
            state.check_record()?;
            state.apply();
        }
        Ok(state)
    }

    /// Writes the keeper's identity and the path of its socket, for clients.
    pub(crate) fn name_keeper(&mut self, pid: u32, start: u64, socket: &[u8]) {
        for index in 0..SOCKET_WORDS {
            let bytes = std::array::from_fn(|at| socket.get(8 * index + at).copied().unwrap_or(0));
            put(&mut self.0, SOCKET + index, u64::from_le_bytes(bytes));
        }
        put(&mut self.0, KEEPER, pid.into());
        put(&mut self.0, KEEPER + 1, start);
    }

    pub(crate) fn contents(&self) -> Result<Contents, Unusable> {
        let values = unpack_values(&self.0, VALUES);
        check_values(&values)?;
        let last = |slot: usize| (self.0.load(LAST + slot / 2) >> (32 * (slot % 2))) as u32;
        let mut entries = Vec::new();
        for index in 0..self.capacity() {
            entries.push(ClientEntry::decode(self.load_entry(entry_at(index)))?);
        }
        while entries.last() == Some(&None) {
            entries.pop();
        }
        Ok(Contents {
            values,
            last: std::array::from_fn(last),
            entries,
            changed_at: self.0.load(CHANGED_AT),
            removed: self.0.load(REMOVED) != 0,
        })
    }

    /// Makes room for an entry with this number.
    pub(crate) fn reserve(&mut self, index: usize) -> io::Result<()> {
        if index < self.capacity() {
            return Ok(());
        }
        let clients = self.0.words() - CLIENTS;
        let words = (CLIENTS + 2 * clients).min(MAX_WORDS);
        if index >= (words - CLIENTS) / ENTRY_WORDS {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.grow(words)
    }

    /// Writes a change. The caller has made room for its entries.
    pub(crate) fn commit(&mut self, change: &Change<'_>) {
        let memory = &mut self.0;
        put(memory, ENTRY_COUNT, change.entries.len() as u64);
        for (number, (index, entry)) in change.entries.iter().enumerate() {
            let first = record_entry(number);
            put(memory, first, *index as u64);
            put_all(memory, first + 1, &ClientEntry::encode(entry.as_ref()));
        }
        put(memory, NEW_REMOVED, change.removed.into());
        put(memory, NEW_CHANGED_AT, change.changed_at);
        put(memory, NEW_PID, change.pid.into());
        let mut touched = [0; TOUCHED_WORDS];
        for &slot in change.touched {
            touched[usize::from(slot) / 64] |= 1 << (slot % 64);
        }
        put_all(memory, TOUCHED, &touched);
        put_all(memory, NEW_VALUES, &pack_values(change.values));
        let committed = memory.load(APPLIED).wrapping_add(1);
        crash::point(Point::ChangeRecorded);
        memory.store(COMMITTED, committed);
        crash::point(Point::ChangeCommitted);
        self.apply();
        crash::point(Point::ChangeApplied);
    }

    /// Writes the change in the redo record to the other areas.
    fn apply(&mut self) {
        for number in 0..self.0.load(ENTRY_COUNT) as usize {
            let first = record_entry(number);
            let words = self.load_entry(first + 1);
            let index = self.0.load(first) as usize;
            put_all(&mut self.0, entry_at(index), &words);
        }
        for (to, from) in [(REMOVED, NEW_REMOVED), (CHANGED_AT, NEW_CHANGED_AT)] {
            let value = self.0.load(from);
            put(&mut self.0, to, value);
        }
        let pid = self.0.load(NEW_PID) as u32;
        for slot in 0..SLOTS {
            if self.0.load(TOUCHED + slot / 64) >> (slot % 64) & 1 != 0 {
                let (word, shift) = (LAST + slot / 2, 32 * (slot % 2));
                let other = self.0.load(word) & !(u64::from(u32::MAX) << shift);
                put(&mut self.0, word, other | u64::from(pid) << shift);
            }
        }
        for index in 0..VALUE_WORDS {
            let value = self.0.load(NEW_VALUES + index);
            put(&mut self.0, VALUES + index, value);
        }
        let committed = self.0.load(COMMITTED);
        self.0.store(APPLIED, committed);
    }

    /// Checks that the redo record can be applied.
    fn check_record(&self) -> Result<(), Unusable> {
        let count = self.0.load(ENTRY_COUNT);
        if count > MAX_ENTRIES as u64 {
            return Err(Unusable("its last change has too many entries"));
        }
        for number in 0..count as usize {
            let first = record_entry(number);
            if self.0.load(first) >= self.capacity() as u64 {
                return Err(Unusable("its last change has an entry beyond its end"));
            }
            ClientEntry::decode(self.load_entry(first + 1))?;
        }
        check_values(&unpack_values(&self.0, NEW_VALUES))
    }

    /// Returns the number of entries for which the file has room.
    fn capacity(&self) -> usize {
        (self.0.words() - CLIENTS) / ENTRY_WORDS
    }

    fn load_entry(&self, first: usize) -> [u64; ENTRY_WORDS] {
        std::array::from_fn(|index| self.0.load(first + index))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn into_memory(self) -> M {
        self.0
    }
}

fn check_values(values: &Values) -> Result<(), Unusable> {
    match values.iter().all(|&value| value <= MAX_VALUE) {
        true => Ok(()),
        false => Err(Unusable("it contains a value that is too high")),
    }
}

fn entry_at(index: usize) -> usize {
    CLIENTS + ENTRY_WORDS * index
}

fn record_entry(number: usize) -> usize {
    ENTRIES + number * (1 + ENTRY_WORDS)
}

/// Stores a word, unless it has this value already.
fn put(memory: &mut impl Memory, word: usize, value: u64) {
    if memory.load(word) != value {
        memory.store(word, value);
    }
}

fn put_all(memory: &mut impl Memory, first: usize, values: &[u64]) {
    for (index, &value) in values.iter().enumerate() {
        put(memory, first + index, value);
    }
}

#[cfg(test)]
pub(crate) mod tests;
