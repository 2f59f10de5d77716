//! Work on all cores.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// How many there are.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Has every core take items until none is left.
pub(crate) fn on_all_cores<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut dyn FnMut() -> Option<T>) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items);
    let workers = cores();
    let work = || work(&mut || queue.lock().unwrap_or_else(PoisonError::into_inner).next());
    thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        let join = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        found.extend(threads.into_iter().map(join));
        found
    })
}

/// The same where work may fail: with the first error.
pub(crate) fn try_on_all_cores<T: Send, R: Send, E: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut dyn FnMut() -> Option<T>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    on_all_cores(items, work).into_iter().collect()
}
