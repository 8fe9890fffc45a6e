//! How far a run is: a bar where a person looks on, lines where they go to a file.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// How often the bar's clock goes on by itself.
const TICK: Duration = Duration::from_millis(500);

/// On standard error; nothing of it is seen if that is no terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(steps: u64) -> Result<Self> {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("[{elapsed_precise}] {wide_bar} {pos}/{len}, {eta} left  {msg}")?);
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Ok(Self(bar))
    }

    /// A step begins.
    pub(super) fn begin(&self, what: String) {
        self.0.set_message(what);
    }

    /// The step has ended; a line about it, unless it is empty.
    pub(super) fn done(&self, line: &str) {
        self.0.inc(1);
        if !line.is_empty() {
            self.0.suspend(|| eprintln!("{line}"));
        }
    }

    /// On standard output.
    pub(super) fn print(&self, text: &str) {
        self.0.suspend(|| println!("{text}"));
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
