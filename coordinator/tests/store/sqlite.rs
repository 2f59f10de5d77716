//! Opening SQLite, and errors after which it ends a transaction by itself.

use lastseen_coordinator::store::{self, SqliteStore, StoreError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use super::samples::capture;

#[tokio::test]
async fn a_url_that_names_no_database_of_ours_is_refused_without_its_password() {
    let home = tempfile::tempdir().unwrap();
    let error = store::open(Some("mysql://me:secret@db/x"), home.path()).await.err().unwrap();
    assert!(matches!(error, StoreError::Scheme(_)));
    let text = error.to_string();
    assert!(text.contains("mysql") && text.contains("postgres://") && !text.contains("secret"), "{text}");
    let missing = format!("sqlite://{}/nowhere/x.db", home.path().display());
    let error = store::open(Some(&missing), home.path()).await.err().unwrap().to_string();
    assert!(error.contains("nowhere") && error.contains("writable"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_ours_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lastseen.db");
    let text = "no database at all, but long enough to have a header of one hundred bytes".repeat(2);
    std::fs::write(&path, text).unwrap();
    let error = SqliteStore::open(None, home.path()).await.unwrap_err().to_string();
    assert!(error.contains("move that file away"), "{error}");
    std::fs::remove_file(&path).unwrap();
    store::open(None, home.path()).await.unwrap().close().await;
    let mut sql = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of the future', TRUE, x'00', 0)";
    sqlx::query(newer).execute(&mut sql).await.unwrap();
    let error = SqliteStore::open(None, home.path()).await.unwrap_err().to_string();
    assert!(
        error.contains("9999") && error.contains("another version of the coordinator made it"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_stored_after_the_disk_was_full_is_committed() {
    let home = tempfile::tempdir().unwrap();
    let store = store::open(None, home.path()).await.unwrap();
    let mut sql =
        SqliteConnectOptions::new().filename(home.path().join("lastseen.db")).connect().await.unwrap();
    // As at a full disk: once the transaction is over, once only the statement (its manual, "CREATE TRIGGER", RAISE).
    for end in ["ROLLBACK", "ABORT"] {
        let fault = format!(
            "CREATE TRIGGER full BEFORE INSERT ON captures BEGIN SELECT RAISE({end}, 'disk is full'); END"
        );
        sqlx::raw_sql(AssertSqlSafe(fault)).execute(&mut sql).await.unwrap();
        store.save_capture(&capture("c-1", 1)).await.unwrap_err();
        sqlx::raw_sql("DROP TRIGGER full").execute(&mut sql).await.unwrap();
    }
    store.save_capture(&capture("c-1", 1)).await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM captures").fetch_one(&mut sql).await.unwrap();
    assert_eq!(seen, 1, "by another connection");
    store.close().await;
}
