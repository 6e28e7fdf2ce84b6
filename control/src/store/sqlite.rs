//! The default store: an embedded SQLite database, one file.
//!
//! Reads come from memory, filled when the file is opened. A write returns when SQLite has the disk's word for it
//! (`synchronous = FULL`); only then memory follows. The connection lives on a thread of its own, so that procedures,
//! which know nothing of an asynchronous runtime, can wait for it from anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use pc5_dataplane::ids::{GroupId, Layer2Id, PtkId};
use pc5_dataplane::keys::UnixSeconds;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::{Binding, GRANTS_KEPT, Granted, MemoryStore, Store, StoreError};
use crate::credential::{Identity, IssuerId};

/// Durable state in a file, of which one process is the only user.
pub struct SqliteStore {
    memory: MemoryStore,
    writes: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// One change, and where its fate is told.
struct Job {
    write: Write,
    done: mpsc::SyncSender<Result<(), StoreError>>,
}

enum Write {
    Epochs { group: GroupId, reserved: u64 },
    Grants { group: GroupId, epoch: u64, grants: Vec<Granted> },
    Bind(Binding),
    Unbind(GroupId, Layer2Id),
    Evicted { group: GroupId, identity: Identity, evicted: bool },
    TimeFloor(UnixSeconds),
    Crl { issuer: IssuerId, der: Vec<u8> },
}

impl SqliteStore {
    /// Opens the file (mode 0600), making it if it is not there.
    ///
    /// # Errors
    /// [`StoreError`]: not readable, not of this version, or in use by another process.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let named = |e: &dyn std::fmt::Display| StoreError(format!("{}: {e}", path.display()));
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .and_then(|f| f.sync_all())
            .map_err(|e| named(&e))?;
        // The name of a new file has to survive too.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| named(&e))?;

        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // A second daemon on the same state would grant what this one grants.
            .locking_mode(SqliteLockingMode::Exclusive)
            .busy_timeout(Duration::from_secs(1))
            .disable_statement_logging();
        let (writes, jobs) = mpsc::channel();
        let (opened, open) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("pc5-store".into())
            .spawn(move || work(options, &opened, &jobs))
            .map_err(|e| named(&e))?;
        let memory = match open.recv() {
            Ok(Ok(memory)) => memory,
            Ok(Err(error)) => return Err(named(&error.0)),
            Err(_) => return Err(named(&"its thread ended")),
        };
        Ok(Self { memory, writes: Some(writes), thread: Some(thread) })
    }

    /// Waits until the change is on the disk.
    fn write(&self, write: Write) -> Result<(), StoreError> {
        let ended = || StoreError("the store's thread ended".into());
        let (done, result) = mpsc::sync_channel(1);
        self.writes.as_ref().ok_or_else(ended)?.send(Job { write, done }).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())?
    }
}

impl Drop for SqliteStore {
    /// Closes the file: the next one to open it must not find it in use.
    fn drop(&mut self) {
        drop(self.writes.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn epochs_reserved(&self, group: GroupId) -> u64 {
        self.memory.epochs_reserved(group)
    }

    fn reserve_epochs(&mut self, group: GroupId, through: u64) -> Result<(), StoreError> {
        let reserved = through.max(self.epochs_reserved(group));
        self.write(Write::Epochs { group, reserved })?;
        self.memory.reserve_epochs(group, through)
    }

    fn record_grants(&mut self, group: GroupId, epoch: u64, grants: &[Granted]) -> Result<(), StoreError> {
        self.write(Write::Grants { group, epoch, grants: grants.to_vec() })?;
        self.memory.record_grants(group, epoch, grants)
    }

    fn bindings(&self, group: GroupId) -> Vec<Binding> {
        self.memory.bindings(group)
    }

    fn bind(&mut self, binding: Binding) -> Result<(), StoreError> {
        self.write(Write::Bind(binding.clone()))?;
        self.memory.bind(binding)
    }

    fn unbind(&mut self, group: GroupId, layer2: Layer2Id) -> Result<(), StoreError> {
        self.write(Write::Unbind(group, layer2))?;
        self.memory.unbind(group, layer2)
    }

    fn evicted(&self, group: GroupId) -> BTreeSet<Identity> {
        self.memory.evicted(group)
    }

    fn set_evicted(&mut self, group: GroupId, identity: &Identity, evicted: bool) -> Result<(), StoreError> {
        self.write(Write::Evicted { group, identity: identity.clone(), evicted })?;
        self.memory.set_evicted(group, identity, evicted)
    }

    fn time_floor(&self) -> UnixSeconds {
        self.memory.time_floor()
    }

    fn raise_time_floor(&mut self, to: UnixSeconds) -> Result<(), StoreError> {
        if to <= self.time_floor() {
            return Ok(());
        }
        self.write(Write::TimeFloor(to))?;
        self.memory.raise_time_floor(to)
    }

    fn crls(&self) -> Vec<Vec<u8>> {
        self.memory.crls()
    }

    fn keep_crl(&mut self, issuer: &IssuerId, der: &[u8]) -> Result<(), StoreError> {
        self.write(Write::Crl { issuer: *issuer, der: der.to_vec() })?;
        self.memory.keep_crl(issuer, der)
    }
}

/// The thread: opens, reads everything, then writes one change after the other.
fn work(
    options: SqliteConnectOptions,
    opened: &mpsc::SyncSender<Result<MemoryStore, StoreError>>,
    jobs: &mpsc::Receiver<Job>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(opened.send(Err(StoreError(error.to_string())))),
    };
    let start = runtime.block_on(async {
        let mut connection = options.connect().await.map_err(failed)?;
        create(&mut connection).await?;
        let memory = load(&mut connection).await?;
        Ok((connection, memory))
    });
    let mut connection = match start {
        Ok((connection, memory)) => {
            if opened.send(Ok(memory)).is_err() {
                return;
            }
            connection
        }
        Err(error) => return drop(opened.send(Err(error))),
    };
    for Job { write, done } in jobs {
        // Who asked tells what failed.
        let _ = done.send(runtime.block_on(apply(&mut connection, write)));
    }
    let _ = runtime.block_on(connection.close());
}

/// Takes the file for this process, and makes what is not there.
async fn create(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for table in TABLES {
        sqlx::query(*table).execute(&mut *change).await.map_err(failed)?;
    }
    let found = sqlx::query("SELECT value FROM meta WHERE name = 'version'")
        .fetch_optional(&mut *change)
        .await
        .map_err(failed)?;
    match found {
        None => {
            sqlx::query("INSERT INTO meta (name, value) VALUES ('version', ?)")
                .bind(VERSION)
                .execute(&mut *change)
                .await
                .map_err(failed)?;
        }
        Some(row) => {
            let version: i64 = column(&row, "value")?;
            if version != VERSION {
                return Err(StoreError(format!("state of version {version}, {VERSION} is wanted")));
            }
        }
    }
    change.commit().await.map_err(failed)
}

async fn load(connection: &mut SqliteConnection) -> Result<MemoryStore, StoreError> {
    let mut memory = MemoryStore::default();
    for row in rows(connection, "SELECT group_id, reserved FROM epochs").await? {
        memory.epochs.insert(group(&row)?, number(&row, "reserved")?);
    }
    for row in rows(connection, "SELECT group_id, epoch, sender, last FROM grants").await? {
        let last = u16::try_from(number(&row, "last")?).ok().and_then(PtkId::new);
        let last = last.ok_or_else(|| malformed("last"))?;
        let key = (group(&row)?, number(&row, "epoch")?, layer2(&row, "sender")?);
        memory.grants.insert(key, last);
    }
    for row in rows(connection, "SELECT group_id, layer2, identity, until FROM bindings").await? {
        let (group, layer2) = (group(&row)?, layer2(&row, "layer2")?);
        let binding = Binding { group, layer2, identity: identity(&row)?, until: number(&row, "until")? };
        memory.bindings.insert((group, layer2), binding);
    }
    for row in rows(connection, "SELECT group_id, identity FROM evicted").await? {
        memory.evicted.entry(group(&row)?).or_default().insert(identity(&row)?);
    }
    for row in rows(connection, "SELECT value FROM meta WHERE name = 'time floor'").await? {
        memory.floor = number(&row, "value")?;
    }
    for row in rows(connection, "SELECT issuer, der FROM crls").await? {
        let issuer: Vec<u8> = column(&row, "issuer")?;
        let issuer = issuer.try_into().map_err(|_| malformed("issuer"))?;
        memory.crls.insert(issuer, column(&row, "der")?);
    }
    Ok(memory)
}

/// One change, whole or not at all.
///
/// `Ok` is SQLite's word for COMMIT and nothing else's. A guard that counts depth, as sqlx's own, is of no use here: a
/// full disk lets SQLite roll back by itself, the guard's ROLLBACK then fails and leaves its count above what is, and
/// from there on it begins savepoints, whose release it takes for a commit.
async fn apply(connection: &mut SqliteConnection, write: Write) -> Result<(), StoreError> {
    let result = match run(connection, "BEGIN IMMEDIATE").await {
        Ok(()) => match change(connection, write).await {
            Ok(()) => run(connection, "COMMIT").await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if result.is_err() {
        // Fails where SQLite did it by itself, without harm. Should a transaction be left after all, then the next
        // BEGIN is refused and comes here. The connection stays, since with it would go the lock on the file.
        let _ = run(connection, "ROLLBACK").await;
    }
    result
}

async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await.map(drop).map_err(failed)
}

/// The statements of a change.
async fn change(connection: &mut SqliteConnection, write: Write) -> Result<(), StoreError> {
    match write {
        Write::Epochs { group, reserved } => {
            sqlx::query("INSERT OR REPLACE INTO epochs (group_id, reserved) VALUES (?, ?)")
                .bind(group.get())
                .bind(reserved.cast_signed())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            sqlx::query("DELETE FROM grants WHERE group_id = ? AND epoch <= ? - ?")
                .bind(group.get())
                .bind(reserved.cast_signed())
                .bind(GRANTS_KEPT.cast_signed())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        Write::Grants { group, epoch, grants } => {
            for grant in grants {
                sqlx::query(
                    "INSERT OR REPLACE INTO grants (group_id, epoch, sender, last) VALUES (?, ?, ?, ?)",
                )
                .bind(group.get())
                .bind(epoch.cast_signed())
                .bind(grant.sender.get())
                .bind(grant.last.get())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            }
        }
        Write::Bind(binding) => {
            sqlx::query(
                "INSERT OR REPLACE INTO bindings (group_id, layer2, identity, until) VALUES (?, ?, ?, ?)",
            )
            .bind(binding.group.get())
            .bind(binding.layer2.get())
            .bind(binding.identity.to_string())
            .bind(binding.until.cast_signed())
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        }
        Write::Unbind(group, layer2) => {
            sqlx::query("DELETE FROM bindings WHERE group_id = ? AND layer2 = ?")
                .bind(group.get())
                .bind(layer2.get())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        Write::Evicted { group, identity, evicted } => {
            let statement = match evicted {
                true => sqlx::query("INSERT OR REPLACE INTO evicted (group_id, identity) VALUES (?, ?)"),
                false => sqlx::query("DELETE FROM evicted WHERE group_id = ? AND identity = ?"),
            };
            statement
                .bind(group.get())
                .bind(identity.to_string())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        Write::TimeFloor(to) => {
            sqlx::query("INSERT OR REPLACE INTO meta (name, value) VALUES ('time floor', ?)")
                .bind(to.cast_signed())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        Write::Crl { issuer, der } => {
            sqlx::query("INSERT OR REPLACE INTO crls (issuer, der) VALUES (?, ?)")
                .bind(issuer.to_vec())
                .bind(der)
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
    }
    Ok(())
}

async fn rows(connection: &mut SqliteConnection, select: &'static str) -> Result<Vec<SqliteRow>, StoreError> {
    sqlx::query(select).fetch_all(connection).await.map_err(failed)
}

fn column<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(failed)
}

/// SQLite's integers have 64 bits with a sign; ours are kept bit by bit.
fn number(row: &SqliteRow, name: &str) -> Result<u64, StoreError> {
    Ok(column::<i64>(row, name)?.cast_unsigned())
}

fn group(row: &SqliteRow) -> Result<GroupId, StoreError> {
    let id = u32::try_from(number(row, "group_id")?).ok().and_then(GroupId::new);
    id.ok_or_else(|| malformed("group_id"))
}

fn layer2(row: &SqliteRow, name: &str) -> Result<Layer2Id, StoreError> {
    u32::try_from(number(row, name)?).ok().and_then(Layer2Id::new).ok_or_else(|| malformed(name))
}

fn identity(row: &SqliteRow) -> Result<Identity, StoreError> {
    column::<String>(row, "identity")?.parse().map_err(|_| malformed("identity"))
}

fn malformed(name: &str) -> StoreError {
    StoreError(format!("malformed {name}"))
}

fn failed(error: sqlx::Error) -> StoreError {
    // SQLITE_BUSY: the file is held by whoever opened it first.
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("5") => StoreError("in use by another process".into()),
        _ => StoreError(error.to_string()),
    }
}

const VERSION: i64 = 1;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS epochs (group_id INTEGER PRIMARY KEY, reserved INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS grants (group_id INTEGER, epoch INTEGER, sender INTEGER, last INTEGER NOT NULL, \
     PRIMARY KEY (group_id, epoch, sender)) STRICT",
    "CREATE TABLE IF NOT EXISTS bindings (group_id INTEGER, layer2 INTEGER, identity TEXT NOT NULL, \
     until INTEGER NOT NULL, PRIMARY KEY (group_id, layer2)) STRICT",
    "CREATE TABLE IF NOT EXISTS evicted (group_id INTEGER, identity TEXT, PRIMARY KEY (group_id, identity)) STRICT",
    "CREATE TABLE IF NOT EXISTS crls (issuer BLOB PRIMARY KEY, der BLOB NOT NULL) STRICT",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gid(n: u32) -> GroupId {
        GroupId::new(n).unwrap()
    }

    fn l2(n: u32) -> Layer2Id {
        Layer2Id::new(n).unwrap()
    }

    fn ue(n: u8) -> Identity {
        format!("pc5:001-01:ue:ue-{n}").parse().unwrap()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(u32, u64),
        Grant(u32, u64, u32, u16),
        Bind(u32, u32, u8, u64),
        Unbind(u32, u32),
        Evict(u32, u8, bool),
        Floor(u64),
        Crl(u8, Vec<u8>),
        Reopen,
        /// A change that the file takes no more of.
        Fail(Fault),
    }

    /// How a write fails: as SQLite does on a full disk, the transaction gone with it; or at the commit, the
    /// transaction left open; or in a statement alone.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Fault {
        Full,
        Commit,
        Statement,
    }

    const FAULTS: [Fault; 3] = [Fault::Full, Fault::Commit, Fault::Statement];

    impl Fault {
        /// The reservation that fails so.
        fn epoch(self) -> u64 {
            1_000_000 + self as u64
        }
    }

    /// A file of which some reservations fail.
    fn faulty(path: &Path) -> SqliteStore {
        drop(SqliteStore::open(path).unwrap());
        let [full, commit, statement] = FAULTS.map(Fault::epoch);
        let triggers = format!(
            "CREATE TABLE nobody (x INTEGER PRIMARY KEY);
             CREATE TABLE orphans (x INTEGER REFERENCES nobody (x) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER full BEFORE INSERT ON epochs WHEN NEW.reserved = {full}
             BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END;
             CREATE TRIGGER late BEFORE INSERT ON epochs WHEN NEW.reserved = {commit}
             BEGIN INSERT INTO orphans (x) VALUES (1); END;
             CREATE TRIGGER once BEFORE INSERT ON epochs WHEN NEW.reserved = {statement}
             BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END;"
        );
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(triggers)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
        SqliteStore::open(path).unwrap()
    }

    /// What a power loss now would leave: the files as they are, nobody having closed them.
    fn after_power_loss(path: &Path, copy: &Path) -> SqliteStore {
        let wal = |p: &Path| {
            let mut name = p.as_os_str().to_owned();
            name.push("-wal");
            std::path::PathBuf::from(name)
        };
        fs::copy(path, copy).unwrap();
        fs::copy(wal(path), wal(copy)).unwrap();
        SqliteStore::open(copy).unwrap()
    }

    fn step() -> impl Strategy<Value = Step> {
        let group = 0..3_u32;
        let layer2 = 0..4_u32;
        prop_oneof![
            (group.clone(), 0..200_u64).prop_map(|(g, e)| Step::Reserve(g, e)),
            (group.clone(), 0..200_u64, layer2.clone(), 1..=u16::MAX)
                .prop_map(|(g, e, s, l)| Step::Grant(g, e, s, l)),
            (group.clone(), layer2.clone(), 0..4_u8, any::<u64>())
                .prop_map(|(g, l, i, u)| Step::Bind(g, l, i, u)),
            (group.clone(), layer2).prop_map(|(g, l)| Step::Unbind(g, l)),
            (group, 0..4_u8, any::<bool>()).prop_map(|(g, i, e)| Step::Evict(g, i, e)),
            any::<u64>().prop_map(Step::Floor),
            (0..3_u8, prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(i, d)| Step::Crl(i, d)),
            Just(Step::Reopen),
            prop::sample::select(&FAULTS[..]).prop_map(Step::Fail),
        ]
    }

    fn act(store: &mut dyn Store, step: &Step) {
        match step {
            Step::Reserve(g, e) => store.reserve_epochs(gid(*g), *e),
            Step::Grant(g, e, s, l) => {
                let last = PtkId::new(*l).unwrap();
                store.record_grants(gid(*g), *e, &[Granted { sender: l2(*s), last }])
            }
            Step::Bind(g, l, i, until) => {
                store.bind(Binding { group: gid(*g), layer2: l2(*l), identity: ue(*i), until: *until })
            }
            Step::Unbind(g, l) => store.unbind(gid(*g), l2(*l)),
            Step::Evict(g, i, e) => store.set_evicted(gid(*g), &ue(*i), *e),
            Step::Floor(to) => store.raise_time_floor(*to),
            Step::Crl(i, der) => store.keep_crl(&[*i; 32], der),
            Step::Reopen | Step::Fail(_) => Ok(()),
        }
        .unwrap();
    }

    /// All that a store holds; that nobody of a group is evicted may be said in two ways.
    fn shown(memory: &MemoryStore) -> String {
        let mut memory = memory.clone();
        memory.evicted.retain(|_, list| !list.is_empty());
        format!("{memory:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn after_any_steps_and_restarts_it_holds_what_memory_holds(
            steps in prop::collection::vec(step(), 0..24),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.db");
            let mut oracle = MemoryStore::default();
            let mut store = faulty(&path);
            for step in &steps {
                act(&mut oracle, step);
                act(&mut store, step);
                if matches!(step, Step::Reopen) {
                    drop(store);
                    store = SqliteStore::open(&path).unwrap();
                }
                if let Step::Fail(fault) = step {
                    prop_assert!(store.reserve_epochs(gid(0), fault.epoch()).is_err());
                }
                prop_assert_eq!(shown(&store.memory), shown(&oracle));
            }
            let copy = after_power_loss(&path, &folder.path().join("copy.db"));
            prop_assert_eq!(shown(&copy.memory), shown(&oracle));
            drop(store);
            prop_assert_eq!(shown(&SqliteStore::open(&path).unwrap().memory), shown(&oracle));
        }
    }

    /// What failed is not there, and what was told done afterwards is.
    #[test]
    fn a_write_after_failed_ones_is_on_the_disk_when_it_is_told_so() {
        for faults in [&[Fault::Full; 3][..], &[Fault::Commit; 3], &[Fault::Statement; 3], &FAULTS] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.db");
            let mut store = faulty(&path);
            store.reserve_epochs(gid(1), 16).unwrap();
            for fault in faults {
                let error = store.reserve_epochs(gid(1), fault.epoch()).unwrap_err();
                assert!(!error.0.contains("transaction"), "{error}");
            }
            assert_eq!(store.epochs_reserved(gid(1)), 16);
            store.reserve_epochs(gid(1), 32).unwrap();
            store.set_evicted(gid(1), &ue(2), true).unwrap();
            let copy = after_power_loss(&path, &folder.path().join("copy.db"));
            assert_eq!(copy.epochs_reserved(gid(1)), 32, "{faults:?}");
            assert_eq!(copy.evicted(gid(1)), BTreeSet::from([ue(2)]), "{faults:?}");
            // A failure gives the file to nobody else.
            let second = SqliteStore::open(&path).err().unwrap();
            assert!(second.0.contains("in use"), "{second}");
        }
    }

    #[test]
    fn a_grant_of_the_first_epoch_outlives_a_reservation_and_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut store = SqliteStore::open(&path).unwrap();
        let last = PtkId::new(1).unwrap();
        store.record_grants(gid(0), 0, &[Granted { sender: l2(0), last }]).unwrap();
        store.reserve_epochs(gid(0), GRANTS_KEPT - 1).unwrap();
        drop(store);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.memory.granted(gid(0), 0, l2(0)), Some(last));
        store.reserve_epochs(gid(0), GRANTS_KEPT).unwrap();
        drop(store);
        assert_eq!(SqliteStore::open(&path).unwrap().memory.granted(gid(0), 0, l2(0)), None);
    }

    #[test]
    fn one_process_at_a_time_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = SqliteStore::open(&path).err().unwrap();
        assert!(second.0.contains("in use"), "{second}");
        drop(store);
        SqliteStore::open(&path).unwrap();
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        fs::write(&path, [7; 5000]).unwrap();
        assert!(SqliteStore::open(&path).is_err());
        assert!(SqliteStore::open(&folder.path().join("no/such/folder/state.db")).is_err());
    }

    #[test]
    fn what_was_told_done_is_in_a_copy_taken_without_closing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.reserve_epochs(gid(1), 16).unwrap();
        let last = PtkId::new(512).unwrap();
        store.record_grants(gid(1), 3, &[Granted { sender: l2(5), last }]).unwrap();
        let copy = after_power_loss(&path, &folder.path().join("copy.db"));
        assert_eq!(copy.epochs_reserved(gid(1)), 16);
        assert_eq!(copy.memory.granted(gid(1), 3, l2(5)), Some(last));
    }

    #[tokio::test]
    async fn procedures_may_wait_for_it_inside_a_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        store.raise_time_floor(7).unwrap();
        store.raise_time_floor(6).unwrap();
        assert_eq!(store.time_floor(), 7);
    }
}
