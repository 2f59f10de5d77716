//! Probes in the embedded database.

use super::SqliteStore;
use super::statements::probes;
use crate::probes::model::{News, Probe};
use crate::store::probes::{Head, ProbeStore, Reports};
use crate::store::{Cursor, StoreError};

#[async_trait::async_trait]
impl ProbeStore for SqliteStore {
    async fn create_probe(
        &self,
        probe: &Probe,
        request: Option<&str>,
        most: usize,
    ) -> Result<Option<String>, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let known = probes::create(&mut transaction, probe, request, most).await?;
        transaction.commit().await?;
        Ok(known)
    }

    async fn probe(&self, id: &str) -> Result<Option<Probe>, StoreError> {
        probes::one(&mut *self.readers.begin().await?, id).await
    }

    async fn probes(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Probe>, StoreError> {
        probes::page(&mut *self.readers.begin().await?, after, limit).await
    }

    async fn open_probes(&self) -> Result<Vec<Probe>, StoreError> {
        probes::open(&mut *self.readers.begin().await?).await
    }

    async fn save_probe_news(&self, news: &[(News, u64)]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        probes::save_news(&mut transaction, news).await?;
        Ok(transaction.commit().await?)
    }

    async fn probe_reports(&self, id: &str, runs: u32, bytes: usize) -> Result<Reports, StoreError> {
        probes::reports(&mut *self.readers.acquire().await?, id, runs, bytes).await
    }

    async fn end_probe(&self, id: &str, at_nanos: i64, stopped: Option<&str>) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        probes::end(&mut transaction, id, at_nanos, stopped).await?;
        Ok(transaction.commit().await?)
    }

    async fn probe_head(&self, id: &str) -> Result<Option<Head>, StoreError> {
        probes::head(&mut *self.readers.acquire().await?, id).await
    }

    async fn delete_probe(&self, ended_before_nanos: i64) -> Result<bool, StoreError> {
        probes::delete(&mut *self.writer.acquire().await?, ended_before_nanos).await
    }
}
