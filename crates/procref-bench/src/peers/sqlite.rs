//! A counter in an SQLite database. It need not survive a power failure, so nothing is synced.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::lockfile::end;
use crate::Result;
use crate::contender::Client;
use crate::site::Site;

const SET_UP: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    CREATE TABLE IF NOT EXISTS shared (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER, pid INTEGER);
";
/// SQLite asks again and again for a lock that somebody has.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Counter {
    site: Site,
    database: Connection,
}

impl Counter {
    pub fn new(site: &Site) -> Result<Self> {
        let database = Connection::open(site.file("shared.sqlite"))?;
        database.busy_timeout(PATIENCE)?;
        database.execute_batch(SET_UP)?;
        Ok(Self {
            site: site.clone(),
            database,
        })
    }

    fn begin(&mut self) -> Result<Transaction<'_>> {
        // A reader that turns into a writer may be refused; who wants to write says so at once.
        Ok(self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

impl Client for Counter {
    fn attach(&mut self) -> Result<()> {
        let site = self.site.clone();
        let transaction = self.begin()?;
        let more = "UPDATE shared SET count = count + 1";
        if transaction.prepare_cached(more)?.execute([])? == 0 {
            let first = "INSERT INTO shared VALUES (1, 1, ?)";
            transaction.execute(first, [site.start()?])?;
        }
        Ok(transaction.commit()?)
    }

    fn detach(&mut self) -> Result<()> {
        let transaction = self.begin()?;
        let less = "UPDATE shared SET count = count - 1 RETURNING count, pid";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?));
        let left = transaction
            .prepare_cached(less)?
            .query_row([], row)
            .optional()?;
        let (count, pid) = left.ok_or("the row is gone")?;
        if count == 0 {
            end(pid);
            transaction.execute("DELETE FROM shared", [])?;
        }
        Ok(transaction.commit()?)
    }
}
