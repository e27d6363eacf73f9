//! The bar of a command that takes a while.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar up to `len` (none where that is unknown) in the form of `template`, and whether it is drawn: on standard error,
/// where that is a terminal, and not if `is_silent`.
pub(crate) fn bar(len: Option<u64>, template: &str, is_silent: bool) -> (ProgressBar, bool) {
    let is_drawn = !is_silent && std::io::stderr().is_terminal();
    let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(len, target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    (bar, is_drawn)
}
