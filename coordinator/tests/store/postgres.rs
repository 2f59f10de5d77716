//! Opening Postgres: what goes wrong and how it is said, and coordinators that start together.

use lastseen_coordinator::store::{PostgresStore, Store};
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::samples::{capture, placed};
use crate::common::postgres::{Database, ENCODED_PASSWORD, PASSWORD};

/// Why a URL does not open. No secret is in it.
async fn refusal(url: &str) -> String {
    let error = PostgresStore::open(url).await.unwrap_err().to_string();
    for secret in [PASSWORD, ENCODED_PASSWORD, "cret", "wrong"] {
        assert!(!error.contains(secret), "{error}");
    }
    error
}

/// Makes a role that logs in over TCP with the password.
async fn role(database: &Database, name: &str) {
    let statement = format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut database.sql().await).await.unwrap();
}

#[tokio::test]
async fn where_nothing_listens_it_says_where_and_what_to_look_at() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = refusal(&format!("postgres://me:{ENCODED_PASSWORD}@{free}/x")).await;
    assert!(error.starts_with(&format!("database postgres://me@{free}/x: Connection refused")), "{error}");
    assert!(
        error.ends_with("check that Postgres runs there and that host and port in --database-url are right")
    );
    let error = refusal("postgres:///x?host=/nowhere&user=me").await;
    assert!(error.starts_with("database postgres://me@/nowhere:5432/x: No such file"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database_are_said_apart() {
    let database = Database::new().await;
    role(&database, "known").await;
    let error = refusal(&database.tcp_url("known", "wrong", "")).await;
    assert!(error.contains("password authentication failed for user \"known\"; check user and"), "{error}");
    let unknown = database.tcp_url("known", ENCODED_PASSWORD, "").replace(&database.name, "nowhere");
    let error = refusal(&unknown).await;
    assert!(error.contains("\"nowhere\" does not exist; make it with CREATE DATABASE"), "{error}");
}

#[tokio::test]
async fn who_may_not_make_tables_is_told_who_should_own_the_database() {
    let database = Database::new().await;
    role(&database, "guest").await;
    let error = refusal(&database.tcp_url("guest", ENCODED_PASSWORD, "")).await;
    assert!(error.contains("permission denied for schema public; let that user create tables"), "{error}");
    let owner = format!("ALTER DATABASE {} OWNER TO guest", database.name);
    sqlx::query(AssertSqlSafe(owner)).execute(&mut database.sql().await).await.unwrap();
    PostgresStore::open(&database.tcp_url("guest", ENCODED_PASSWORD, "")).await.unwrap().close().await;
}

#[tokio::test]
async fn a_certificate_is_checked_when_the_url_says_so() {
    let database = Database::new().await;
    role(&database, "secure").await;
    sqlx::query(AssertSqlSafe(format!("ALTER DATABASE {} OWNER TO secure", database.name)))
        .execute(&mut database.sql().await)
        .await
        .unwrap();
    let url = |ca: &std::path::Path| {
        let parameters = format!("sslmode=verify-full&sslrootcert={}", ca.join("ca.crt").display());
        database.tcp_url("secure", ENCODED_PASSWORD, &parameters)
    };
    let store = PostgresStore::open(&url(database.server.authority.coordinator().dir())).await.unwrap();
    let encrypted = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE ssl AND usename = 'secure'";
    store.nodes().await.unwrap();
    let encrypted: i64 = sqlx::query_scalar(encrypted).fetch_one(&mut database.sql().await).await.unwrap();
    assert!(encrypted >= 1);
    let stranger = crate::common::pki::Authority::new();
    let error = refusal(&url(stranger.coordinator().dir())).await;
    assert!(error.contains("certificate") && error.contains("sslrootcert"), "{error}");
}

/// A server of another version, as far as its first words (the manual's chapter on the protocol, "Start-up").
async fn speaks_as(version: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap() as usize;
        stream.read_exact(&mut vec![0; length - 4]).await.unwrap();
        let mut answer = b"R\0\0\0\x08\0\0\0\0".to_vec();
        let parameter = format!("server_version\0{version}\0");
        answer.push(b'S');
        answer.extend((parameter.len() as u32 + 4).to_be_bytes());
        answer.extend(parameter.as_bytes());
        answer.extend(b"Z\0\0\0\x05I");
        stream.write_all(&answer).await.unwrap();
        // Until it is left.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    address
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_the_version_that_would_do() {
    for (version, shown) in [("12.17", "12.17"), ("9.6.24", "9.6")] {
        let address = speaks_as(version).await;
        let error = refusal(&format!("postgres://me@{address}/x?sslmode=disable")).await;
        let expected = format!("the server is Postgres {shown}, and 13 is the oldest that works");
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_postgres_is_not_waited_for_in_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = refusal(&format!("postgres://me@{address}/x")).await;
    assert!(error.starts_with(&format!("database postgres://me@{address}/x: ")), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_coordinator_is_left_alone() {
    let database = Database::new().await;
    PostgresStore::open(&database.url()).await.unwrap().close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of the future', TRUE, '\\x00', 0)";
    sqlx::query(newer).execute(&mut database.sql().await).await.unwrap();
    let error = refusal(&database.url()).await;
    assert!(
        error.contains("9999") && error.contains("another version of the coordinator made it"),
        "{error}"
    );
}

#[tokio::test]
async fn coordinators_that_start_together_migrate_once() {
    let database = Database::new().await;
    let opening = (0..6).map(|_| {
        let url = database.url();
        tokio::spawn(async move { PostgresStore::open(&url).await })
    });
    let opening: Vec<_> = opening.collect();
    for open in opening {
        open.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }
    let applied = "SELECT version FROM _sqlx_migrations ORDER BY version";
    let applied: Vec<i64> = sqlx::query_scalar(applied).fetch_all(&mut database.sql().await).await.unwrap();
    let known: Vec<i64> = sqlx::migrate!("./migrations/postgres").iter().map(|step| step.version).collect();
    assert_eq!(applied, known);
}

/// A connection that was prepared before a newer coordinator added a column goes on working.
#[tokio::test]
async fn a_column_that_a_newer_coordinator_adds_disturbs_no_older_one() {
    let database = Database::new().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    store.commit_batches(&[placed("c-1", "eth0", 0)]).await.unwrap();
    // Often enough that every connection of the pool has its turn.
    let read = async || {
        for _ in 0..20 {
            read_once(&store).await;
        }
    };
    read().await;
    for table in ["nodes", "captures", "capture_nodes", "capture_points", "batches", "flow_records"] {
        let statement = format!("ALTER TABLE {table} ADD COLUMN of_the_future BIGINT NOT NULL DEFAULT 0");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut database.sql().await).await.unwrap();
    }
    read().await;
    store.commit_batches(&[placed("c-1", "eth0", 1)]).await.unwrap();
}

async fn read_once(store: &PostgresStore) {
    assert_eq!(store.capture("c-1").await.unwrap().unwrap(), capture("c-1", 1));
    assert_eq!(store.batches("c-1").await.unwrap().len(), 1);
    assert_eq!(store.flows("c-1", 0, 1).await.unwrap(), []);
    assert!(store.nodes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_database_that_commits_without_syncing_is_made_to_sync() {
    let database = Database::new().await;
    let lax = format!("ALTER DATABASE {} SET synchronous_commit = off", database.name);
    sqlx::query(AssertSqlSafe(lax)).execute(&mut database.sql().await).await.unwrap();
    let store = PostgresStore::open(&database.url()).await.unwrap();
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    // What a commit is made with shows from inside one.
    let witness = "CREATE FUNCTION note() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
                       UPDATE captures SET reason = current_setting('synchronous_commit'); RETURN NEW; END $$";
    let trigger = "CREATE TRIGGER witness AFTER INSERT ON batches FOR EACH ROW EXECUTE FUNCTION note()";
    for statement in [witness, trigger] {
        sqlx::query(statement).execute(&mut database.sql().await).await.unwrap();
    }
    store.commit_batches(&[placed("c-1", "eth0", 0)]).await.unwrap();
    assert_eq!(store.capture("c-1").await.unwrap().unwrap().reason, "on");
}
