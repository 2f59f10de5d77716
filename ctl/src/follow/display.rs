//! Progress on standard error: a moving display on a terminal, nothing elsewhere, unless a line per change is asked
//! for with `-v`.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use lastseen_proto::v1::Capture;

use super::changes::Changes;
use super::moving;
use crate::context::Context;
use crate::output::escape;

/// Shows how a capture goes. The moving form disappears when it is dropped.
#[derive(Debug)]
pub struct Display(Kind);

#[derive(Debug)]
enum Kind {
    Quiet,
    Lines(Changes),
    Moving(ProgressBar),
}

impl Display {
    /// In the form that fits standard error.
    pub fn new(context: &Context) -> Self {
        let global = &context.global;
        Self(match (global.quiet, context.progress) {
            (false, true) => Kind::Moving(bar()),
            (false, false) if global.verbose => Kind::Lines(Changes::default()),
            _ => Kind::Quiet,
        })
    }

    /// Shows the capture as it is now.
    pub fn update(&mut self, capture: &Capture) {
        match &mut self.0 {
            Kind::Quiet => {}
            Kind::Lines(changes) => changes.lines(capture).iter().for_each(|line| eprintln!("{line}")),
            Kind::Moving(bar) => {
                let frame = moving::frame(capture, Timestamp::now());
                bar.update(|state| {
                    state.set_len(frame.length);
                    state.set_pos(frame.position);
                });
                bar.set_prefix(escape::line(&capture.id).into_owned());
                bar.set_message(frame.message);
                // Shown once there is something to show.
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.tick();
                }
            }
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Kind::Moving(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template("{prefix}  {bar:24}  {msg}") {
        bar.set_style(style);
    }
    bar
}
