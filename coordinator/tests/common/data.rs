//! Where a coordinator under test keeps its data, and a hand of the test's own in it.

use std::path::Path;
use std::sync::Arc;

use lastseen_coordinator::config::Config;
use lastseen_coordinator::store::{self, Store};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tempfile::TempDir;

use super::postgres::Database;

/// `postgres` here lets every coordinator under test keep its rows there.
const CHOICE: &str = "LASTSEEN_TEST_DATABASE";

type Telling = Box<dyn Fn(&mut Config) + Send + Sync>;

/// A directory, with the database in it or on a Postgres of the test's own.
pub struct Data {
    directory: TempDir,
    database: Option<Database>,
    /// What else a coordinator on it is told.
    told: Option<Telling>,
}

impl Data {
    /// On the database that the environment chooses, SQLite unless it says otherwise.
    pub async fn new() -> Self {
        let database = match std::env::var(CHOICE).as_deref() {
            Ok("postgres") => Some(Database::new().await),
            Ok("sqlite") | Err(_) => None,
            Ok(other) => panic!("{CHOICE}: {other:?} is neither postgres nor sqlite"),
        };
        Self::on(database)
    }

    /// On this one.
    pub fn on(database: Option<Database>) -> Self {
        Self { directory: TempDir::new().unwrap(), database, told: None }
    }

    /// With a configuration that differs.
    #[must_use]
    pub fn telling(self, told: impl Fn(&mut Config) + Send + Sync + 'static) -> Self {
        Self { told: Some(Box::new(told)), ..self }
    }

    pub(super) fn tell(&self, config: &mut Config) {
        if let Some(told) = &self.told {
            told(config);
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// For `--database-url`.
    pub fn url(&self) -> Option<String> {
        self.database.as_ref().map(Database::url)
    }

    /// The store, while no coordinator has it.
    pub async fn store(&self) -> Arc<dyn Store> {
        store::open(self.url().as_deref(), self.path()).await.unwrap()
    }

    pub async fn sql(&self) -> Sql {
        if let Some(database) = &self.database {
            return Sql::Postgres(database.sql().await);
        }
        let options = SqliteConnectOptions::new().filename(self.path().join("lastseen.db"));
        Sql::Sqlite(options.connect().await.unwrap())
    }
}

/// The test's own connection to the database, for faults and for what no call shows.
pub enum Sql {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Sql {
    pub async fn run(&mut self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(sql) => drop(sqlx::raw_sql(statement).execute(sql).await.unwrap()),
            Self::Postgres(sql) => drop(sqlx::raw_sql(statement).execute(sql).await.unwrap()),
        }
    }

    /// The one number that a query finds.
    pub async fn number(&mut self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(sql) => sqlx::query_scalar(query).fetch_one(sql).await.unwrap(),
            Self::Postgres(sql) => sqlx::query_scalar(query).fetch_one(sql).await.unwrap(),
        }
    }

    /// The first value that a query finds, as bytes.
    pub async fn bytes(&mut self, query: &str) -> Vec<u8> {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(sql) => sqlx::query_scalar(query).fetch_one(sql).await.unwrap(),
            Self::Postgres(sql) => sqlx::query_scalar(query).fetch_one(sql).await.unwrap(),
        }
    }

    /// Runs `action` at each `event`, say `AFTER UPDATE ON nodes`.
    pub async fn at(&mut self, event: &str, action: &str) {
        let statement = match self {
            Self::Sqlite(_) => format!("CREATE TRIGGER hook {event} BEGIN {action}; END"),
            Self::Postgres(_) => format!(
                "CREATE FUNCTION hook() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN {action}; RETURN NEW; END $$;
                 CREATE TRIGGER hook {event} FOR EACH ROW EXECUTE FUNCTION hook()"
            ),
        };
        self.run(&statement).await;
    }

    /// Lets each `event`, say `INSERT`, fail on the table as a broken disk does.
    pub async fn break_on(&mut self, event: &str, table: &str) {
        let action = match self {
            Self::Sqlite(_) => "SELECT RAISE(ABORT, 'disk I/O error')",
            Self::Postgres(_) => "RAISE EXCEPTION 'disk I/O error'",
        };
        self.at(&format!("BEFORE {event} ON {table}"), action).await;
    }

    /// Takes back [`Sql::break_on`].
    pub async fn mend(&mut self, table: &str) {
        let statement = match self {
            Self::Sqlite(_) => "DROP TRIGGER hook".to_owned(),
            Self::Postgres(_) => format!("DROP TRIGGER hook ON {table}; DROP FUNCTION hook"),
        };
        self.run(&statement).await;
    }
}
