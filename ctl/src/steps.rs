//! Calls that are answered step by step, until what was asked for is done.

use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;
use tonic::{Response, Status, Streaming};

use crate::context::Context;
use crate::rpc::Fabric;

/// Between two turns of the progress display.
const TICK: Duration = Duration::from_millis(200);

/// Makes `call` and shows each step until the last answer, which is returned; at another coordinator if this one goes:
/// what was begun is found by its id. `step` is what is done; absent: the answer is the last. `interrupted` says what goes
/// on when the caller does not wait.
pub async fn follow<R, C, A>(
    fabric: &Fabric,
    context: &Context,
    interrupted: &'static str,
    step: fn(&R) -> Option<&str>,
    mut call: C,
) -> anyhow::Result<R>
where
    C: FnMut() -> A,
    A: Future<Output = Result<Response<Streaming<R>>, Status>>,
{
    let is_shown = context.progress && !context.global.quiet;
    let progress = if is_shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    progress.enable_steady_tick(TICK);
    let following = fabric.again(|| {
        let (asked, progress) = (call(), progress.clone());
        async move {
            let mut stream = asked.await?.into_inner();
            while let Some(answer) = stream.message().await? {
                match step(&answer) {
                    Some(step) => progress.set_message(step.to_owned()),
                    None => return Ok(answer),
                }
            }
            Err(Status::unavailable("it stopped before the end"))
        }
    });
    let last = tokio::select! {
        last = following => last.map_err(|status| fabric.failed(&status)),
        _ = tokio::signal::ctrl_c() => bail!("interrupted; {interrupted}"),
    };
    progress.finish_and_clear();
    last
}
