//! Probes in the database server. Each change is told to the other coordinators, which have agents of their own for it.

use super::again::{ASKED, WORK};
use super::statements::probes;
use super::{PostgresStore, shared};
use crate::probes::model::{News, Probe};
use crate::store::cluster::Word;
use crate::store::probes::{Head, ProbeStore, Reports};
use crate::store::{Cursor, StoreError};

#[async_trait::async_trait]
impl ProbeStore for PostgresStore {
    async fn create_probe(
        &self,
        probe: &Probe,
        request: Option<&str>,
        most: usize,
    ) -> Result<Option<String>, StoreError> {
        // Made again after an answer that was lost, it would be found by its own request, or fail by its id.
        self.again(ASKED, || async move {
            let mut transaction = self.pool.begin().await?;
            shared::lease::one_at_a_time(&mut transaction).await?;
            let known = probes::create(&mut transaction, probe, request, most).await?;
            shared::notify(&mut transaction, self.id, Word::Probes).await?;
            super::commit_once(transaction).await?;
            Ok(known)
        })
        .await
    }

    async fn probe(&self, id: &str) -> Result<Option<Probe>, StoreError> {
        self.again(ASKED, || async move { probes::one(&mut *self.read().await?, id).await }).await
    }

    async fn probes(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Probe>, StoreError> {
        self.again(ASKED, || async move { probes::page(&mut *self.read().await?, after, limit).await }).await
    }

    async fn open_probes(&self) -> Result<Vec<Probe>, StoreError> {
        self.again(ASKED, || async move { probes::open(&mut *self.read().await?).await }).await
    }

    async fn save_probe_news(&self, news: &[(News, u64)]) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            let mut transaction = self.pool.begin().await?;
            probes::save_news(&mut transaction, news).await?;
            shared::notify(&mut transaction, self.id, Word::Probes).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn probe_reports(&self, id: &str, runs: u32, bytes: usize) -> Result<Reports, StoreError> {
        self.again(ASKED, || async move { probes::reports(&mut *self.read().await?, id, runs, bytes).await })
            .await
    }

    async fn end_probe(&self, id: &str, at_nanos: i64, stopped: Option<&str>) -> Result<(), StoreError> {
        self.again(ASKED, || async move {
            let mut transaction = self.pool.begin().await?;
            probes::end(&mut transaction, id, at_nanos, stopped).await?;
            shared::notify(&mut transaction, self.id, Word::Probes).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn probe_head(&self, id: &str) -> Result<Option<Head>, StoreError> {
        self.again(ASKED, || async move { probes::head(&mut *self.pool.acquire().await?, id).await }).await
    }

    async fn delete_probe(&self, ended_before_nanos: i64) -> Result<bool, StoreError> {
        self.again(WORK, || async move {
            probes::delete(&mut *self.pool.acquire().await?, ended_before_nanos).await
        })
        .await
    }
}
