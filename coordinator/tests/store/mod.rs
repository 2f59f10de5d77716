//! What every store backend must do: one list, run against SQLite and against Postgres, and beside it what only one of
//! them can get wrong.

mod cluster;
mod conformance;
mod postgres;
mod probes;
mod restart;
mod samples;
mod sqlite;

use std::sync::Arc;

use crate::common::postgres::Database;
use lastseen_coordinator::store::{self, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tempfile::TempDir;

/// Where the database of a test lies.
enum Home {
    Sqlite(TempDir),
    Postgres(Database),
}

impl Home {
    /// The store, as a coordinator opens it.
    async fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(directory) => store::open(None, directory.path()).await,
            Self::Postgres(database) => store::open(Some(&database.url()), "/nowhere".as_ref()).await,
        }
        .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a statement behind the store's back, or says why the database refuses it.
    async fn try_run(&self, statement: &'static str) -> Result<(), String> {
        let done = match self {
            Self::Sqlite(directory) => {
                let options = SqliteConnectOptions::new().filename(directory.path().join("lastseen.db"));
                let mut sql = options.connect().await.unwrap();
                sqlx::raw_sql(statement).execute(&mut sql).await.map(drop)
            }
            Self::Postgres(database) => {
                sqlx::raw_sql(statement).execute(&mut database.sql().await).await.map(drop)
            }
        };
        done.map_err(|error| error.to_string())
    }

    /// Rows in a table.
    async fn count(&self, table: &str) -> i64 {
        let statement = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        match self {
            Self::Sqlite(directory) => {
                let options = SqliteConnectOptions::new().filename(directory.path().join("lastseen.db"));
                let mut sql = options.connect().await.unwrap();
                sqlx::query_scalar(statement).fetch_one(&mut sql).await.unwrap()
            }
            Self::Postgres(database) => {
                sqlx::query_scalar(statement).fetch_one(&mut database.sql().await).await.unwrap()
            }
        }
    }
}

/// Makes each of these tests two.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::conformance::$name(super::Home::Sqlite(tempfile::tempdir().unwrap())).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                super::conformance::$name(super::Home::Postgres(super::Database::new().await)).await;
            })*
        }
    };
}

on_both! {
    captures_come_back_as_they_were_after_a_restart,
    a_capture_keeps_what_a_later_write_does_not_name,
    twins_of_a_point_are_one_and_the_last_counts,
    pages_are_newest_first_without_gaps,
    order_is_that_of_bytes,
    unfinished_captures_come_oldest_first,
    what_is_not_there_is_none_or_empty,
    runs_are_counted,
    batches_are_found_in_the_order_asked_for,
    a_batch_is_stored_once_and_a_group_wholly_or_not_at_all,
    a_batch_needs_its_capture,
    a_point_that_changed_keeps_its_batches,
    deleting_a_capture_leaves_nothing_of_it,
    results_replace_earlier_ones_and_are_paged,
    results_may_be_large,
    nodes_are_remembered,
    numbers_have_64_bits,
    text_may_hold_anything,
    writers_at_once_lose_nothing,
    writers_of_one_key_store_it_once,
    ages_are_oldest_first_by_the_end_of_the_window,
    one_at_a_time_deletes_what_is_old,
    the_database_says_what_it_is,
    savers_and_committers_of_one_capture_do_not_block_each_other,
    the_audit_is_paged_newest_first_and_searched,
    the_audit_keeps_the_newest_records_and_changes_none,
    probes_come_back_as_they_were_and_once_for_each_call,
    reports_of_probes_are_stored_once_and_the_newest_runs_stay,
    probes_end_once_and_go_with_all_that_hangs_on_them,
}
