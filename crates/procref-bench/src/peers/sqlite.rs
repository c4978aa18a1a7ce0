//! A counter in an SQLite database. The counter need not survive a power failure, so nothing is synced to disk.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::Client;
use super::lockfile::stop;
use crate::error::Result;
use crate::site::Site;

const SET_UP: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    CREATE TABLE IF NOT EXISTS shared (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER, pid INTEGER);
";
/// Time for which SQLite retries to lock the database.
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
        // An immediate transaction locks for writing at once. SQLite may refuse to upgrade a reader to a writer.
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
        let parse = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?));
        let row = transaction
            .prepare_cached(less)?
            .query_row([], parse)
            .optional()?;
        let (count, pid) = row.ok_or("the row does not exist")?;
        if count == 0 {
            stop(pid);
            transaction.execute("DELETE FROM shared", [])?;
        }
        Ok(transaction.commit()?)
    }
}
