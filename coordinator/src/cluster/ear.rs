//! What the others say that they did. Words get lost: who hears none finds out a moment later.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::store::cluster::Word;
use crate::store::{Shared, StoreError};

/// Words of the others that were not acted upon yet.
#[derive(Debug, Default)]
pub(super) struct Heard {
    words: Mutex<BTreeSet<Word>>,
    pub(super) told: Notify,
}

impl Heard {
    fn add(&self, words: impl IntoIterator<Item = Word>) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).extend(words);
        self.told.notify_one();
    }

    pub(super) fn take(&self) -> BTreeSet<Word> {
        std::mem::take(&mut *self.words.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hears the others until `stopping`.
pub(super) async fn listen(shared: Shared, heard: Arc<Heard>, stopping: CancellationToken) {
    let listening = async {
        loop {
            if let Err(error) = hear(&shared, &heard).await {
                tracing::debug!(%error, "other coordinators are not heard; listening again in a moment");
            }
            sleep(limits::LEASE_INTERVAL).await;
        }
    };
    stopping.run_until_cancelled(listening).await;
}

async fn hear(shared: &Shared, heard: &Heard) -> Result<(), StoreError> {
    let mut ear = shared.listen().await?;
    heard.add(Word::all());
    loop {
        match ear.next().await? {
            Some(word) => heard.add([word]),
            None => heard.add(Word::all()),
        }
    }
}
