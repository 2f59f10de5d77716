//! From a URL to connections, and what to say when that fails. No text made here repeats a password: a URL is shown as
//! what was understood of it.

use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use super::lone::Lone;
use crate::store::StoreError;

/// Oldest server that is supported, as in `server_version_num`.
const LEAST_VERSION: u32 = 130_000;
/// A server that has not let us in by then is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// Connections of one coordinator, beside that of its leases. Its writers are few, and a server has 100 for all.
const CONNECTIONS: u32 = 10;
/// A call waits this long for a connection; meanwhile the pool keeps trying to make one.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A wait for a row or for another coordinator's migration ends after this, and so does what holds it up when its
/// coordinator is frozen in the middle of a transaction.
const SESSION: [(&str, &str); 2] = [("lock_timeout", "60s"), ("idle_in_transaction_session_timeout", "10s")];
/// A commit is on stable storage when it returns: acknowledgements rest on it. Stricter settings are left alone.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false)
                       WHERE current_setting('synchronous_commit') = 'off'";
/// What the driver reads from a URL; of other parameters it would log the value.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A database that was understood.
pub(super) struct Target {
    options: PgConnectOptions,
    /// `postgres://user@host:port/database`.
    pub(super) shown: String,
}

impl Target {
    /// `id` tells this process from the others in the server's list of connections.
    pub(super) fn parse(url: &str, id: i64) -> Result<Self, StoreError> {
        let refused =
            |reason: String, advice| StoreError::Open { url: "postgres:…".into(), reason, advice };
        check(url).map_err(|(reason, advice)| refused(reason.to_owned(), advice))?;
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| refused(reason(&error), "give postgres://user:password@host:5432/database"))?;
        let shown = show(&options);
        let name = options.get_application_name().unwrap_or("lastseen-coordinator");
        let named = application_name(name, id);
        let options = options.application_name(&named);
        Ok(Self { options: options.options(SESSION), shown })
    }

    /// Looks at the server, brings the schema up to date and makes the pool and a connection beside it. Coordinators that
    /// start together take turns: migrations run under an advisory lock of the database.
    pub(super) async fn open(self) -> Result<(PgPool, Lone), StoreError> {
        let failed = |error: MigrateError| {
            let (reason, advice) = explain(&error);
            StoreError::Open { url: self.shown.clone(), reason, advice }
        };
        let connecting = tokio::time::timeout(CONNECT, self.options.connect());
        let connected = connecting.await.unwrap_or_else(|_| Err(silence()));
        let mut connection = connected.map_err(|error| failed(error.into()))?;
        self.check_server(&mut connection).await?;
        // On the connection itself: when it fails, the lock goes with it.
        let migrator = sqlx::migrate!("./migrations/postgres");
        migrator.run_direct(None, &mut connection, false).await.map_err(failed)?;
        sqlx::Connection::close(connection).await.map_err(|error| failed(error.into()))?;
        Ok((self.pool(), Lone::new(self.options.clone(), DURABLE, ACQUIRE)))
    }

    fn pool(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
        let pool = pool.after_connect(|connection, _| {
            Box::pin(async move { sqlx::query(DURABLE).execute(connection).await.map(drop) })
        });
        pool.connect_lazy_with(self.options.clone())
    }

    async fn check_server(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let open = |reason, advice| StoreError::Open { url: self.shown.clone(), reason, advice };
        let version = connection.server_version_num().unwrap_or(0);
        if version < LEAST_VERSION {
            // 12.17 is 120017, and 9.6.24 is 90624.
            let (major, minor) = (version / 10_000, version % 10_000);
            let minor = if major < 10 { minor / 100 } else { minor };
            let least = LEAST_VERSION / 10_000;
            return Err(open(
                format!("the server is Postgres {major}.{minor}, and {least} is the oldest that works"),
                "upgrade it or name another server",
            ));
        }
        let fsync: Result<String, _> = sqlx::query_scalar("SHOW fsync").fetch_one(connection).await;
        if fsync.is_ok_and(|fsync| fsync == "off") {
            tracing::warn!(
                database = self.shown,
                "the server runs with fsync = off: a power cut loses what was acknowledged"
            );
        }
        Ok(())
    }
}

/// What the server shows of a connection of the process `id`. It keeps 63 bytes.
pub(super) fn application_name(name: &str, id: i64) -> String {
    let name: String = name.chars().filter(char::is_ascii).take(40).collect();
    format!("{name} {id}")
}

/// What the driver would misread or repeat in its own log.
fn check(url: &str) -> Result<(), (&'static str, &'static str)> {
    let (_, rest) = url.split_once("://").ok_or(("there is no //", "give postgres://user@host/database"))?;
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if rest[authority..].contains('@') {
        return Err((
            "there is an @ behind the host",
            "write / ? # @ in a user or password as %2F %3F %23 %40",
        ));
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let keys = query.split('&').filter(|pair| !pair.is_empty());
    let mut keys = keys.map(|pair| pair.split('=').next().unwrap_or_default());
    if keys.all(|key| PARAMETERS.contains(&key) || key.starts_with("options[")) {
        return Ok(());
    }
    Err((
        "a parameter behind the ? is not known",
        "give sslmode, sslrootcert, sslcert, sslkey, host, port, dbname, user, password, application_name or options",
    ))
}

fn show(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(|| options.get_host().into(), |path| path.to_string_lossy());
    let (user, port) = (options.get_username(), options.get_port());
    format!("postgres://{user}@{host}:{port}/{}", options.get_database().unwrap_or(user))
}

fn silence() -> sqlx::Error {
    let reason = format!("no answer within {} s", CONNECT.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
}

/// What the server or the system said, without the driver's words around it.
pub(super) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) | sqlx::Error::Tls(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => format!("no connection within {} s", ACQUIRE.as_secs()),
        other => other.to_string(),
    }
}

/// Why it does not open, and what to do.
fn explain(error: &MigrateError) -> (String, &'static str) {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            (reason(error), advice(error))
        }
        MigrateError::VersionMissing(_)
        | MigrateError::VersionMismatch(_)
        | MigrateError::VersionTooNew(..) => {
            (error.to_string(), "another version of the coordinator made it; start that one, or a newer one")
        }
        other => (other.to_string(), "the server's log may say more"),
    }
}

/// By SQLSTATE, see the manual's appendix A.
fn advice(error: &sqlx::Error) -> &'static str {
    const CERTIFICATE: &str = "check sslmode and sslrootcert in --database-url";
    match error {
        // What rustls says of a peer comes as an error of the stream.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => CERTIFICATE,
        sqlx::Error::Tls(_) => CERTIFICATE,
        sqlx::Error::Io(_) => {
            "check that Postgres runs there and that host and port in --database-url are right"
        }
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01" | "28000") => {
                "check user and password (in --database-url, PGPASSWORD or PGPASSFILE) and the server's pg_hba.conf"
            }
            Some("3D000") => "make it with CREATE DATABASE, or name another one in --database-url",
            Some("42501") => "let that user create tables there, best by making it the owner of the database",
            Some("25006") => "name the primary in --database-url, not a standby",
            Some("53300") => "raise max_connections of the server, or stop what uses them up",
            Some("55P03") => "another coordinator is changing the schema; look at it, then start again",
            _ => "the server's log may say more",
        },
        _ => "the server's log may say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Target::parse(url, 1).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:secret@db:5433/x?sslmode=disable", "postgres://me@db:5433/x"),
            ("postgresql://me@db/x?password=secret", "postgres://me@db:5432/x"),
            ("postgres:///x?host=/run/pg&user=me&password=secret", "postgres://me@/run/pg:5432/x"),
            ("postgres://me:s%40cret%2F@db/x", "postgres://me@db:5432/x"),
        ] {
            assert_eq!(Target::parse(url, 1).unwrap_or_else(|e| panic!("{e}")).shown, shown);
        }
    }

    #[test]
    fn what_is_not_understood_is_not_repeated() {
        for (url, expected) in [
            ("postgres:me:secret@db/x", "there is no //"),
            ("postgres://me:sec/ret@db/x", "there is an @ behind the host"),
            ("postgres://me:sec?ret@db/x", "%3F"),
            ("postgres://me:sec#ret@db/x", "%23"),
            ("postgres://me:12/secret@db/x", "%2F"),
            ("postgres://me@db/x?passwort=secret", "a parameter behind the ? is not known"),
            ("postgres://me:secret@db:port/x", "invalid port"),
            ("postgres://me:secret@db/x?sslmode=maybe", "maybe"),
        ] {
            let error = refusal(url);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("sec") && !error.contains("12"), "{error}");
        }
    }
}
