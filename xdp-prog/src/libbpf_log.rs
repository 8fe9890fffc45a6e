//! Keeps libbpf from printing to stderr, and keeps what it said for the error message.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::{PrintCallback, PrintLevel, set_print};

/// A verifier refusal ends with the offending instruction and a summary; this many lines hold both.
const KEPT_LINES: usize = 24;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static CAPTURING: Mutex<()> = Mutex::new(());

/// While this lives, libbpf's messages (of the whole process: libbpf has one callback) are kept instead of printed.
pub(crate) struct LibbpfLog {
    previous: Option<(PrintLevel, PrintCallback)>,
    _only_one: MutexGuard<'static, ()>,
}

impl LibbpfLog {
    pub(crate) fn capture() -> Self {
        let only_one = CAPTURING.lock().unwrap_or_else(PoisonError::into_inner);
        lines().clear();
        Self { previous: set_print(Some((PrintLevel::Info, keep))), _only_one: only_one }
    }

    /// The last lines said since `capture`, oldest first.
    pub(crate) fn take(&self) -> Vec<String> {
        lines().drain(..).collect()
    }
}

impl Drop for LibbpfLog {
    fn drop(&mut self) {
        set_print(self.previous.take());
    }
}

fn lines() -> MutexGuard<'static, VecDeque<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(_level: PrintLevel, message: String) {
    let mut lines = lines();
    for line in message.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}
