//! The flags that list commands share.

use std::future::Future;

use clap::Args;

use crate::{parse, rpc};

/// How much.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Limit {
    /// At most this many.
    #[arg(long, value_name = "N", value_parser = parse::positive::<u32>)]
    limit: Option<u32>,
}

/// Which capture's contents, and how much of them.
#[derive(Args, Debug)]
pub(super) struct Listing {
    /// Capture id; the newest capture without it.
    #[arg(default_value = "", hide_default_value = true)]
    pub(super) id: String,
    #[command(flatten)]
    pub(super) limit: Limit,
}

impl Limit {
    /// This limit, or `most` where none was given.
    pub(super) fn or(self, most: u32) -> Self {
        Self { limit: self.limit.or(Some(most)) }
    }

    /// Page after page until the last, or until there are enough items; see [`rpc::all_pages`].
    pub(super) async fn pages<T, F, A>(&self, fetch: F) -> anyhow::Result<Vec<T>>
    where
        F: FnMut(u32, String) -> A,
        A: Future<Output = anyhow::Result<(Vec<T>, String)>>,
    {
        rpc::all_pages(self.limit.map(|limit| limit as usize), fetch).await
    }
}
