//! Work that takes long with a large fleet, beside the threads that answer calls.

use tokio::task::spawn_blocking;

use crate::error::Error;

/// What `work` comes to. An error: it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))
}
