//! Everything that larder says while it works: on stderr, so that stdout stays data.
//!
//! Bars are drawn on a terminal only; elsewhere each finished step is one plain line.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Owner of the terminal: all bars and all notes go through it.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
    quiet: bool,
}

impl Progress {
    /// Draws on stderr; indicatif hides bars by itself when stderr is no terminal.
    pub fn stderr() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), quiet: false }
    }

    /// Says nothing (tests, `--quiet`).
    pub fn silent() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), quiet: true }
    }

    /// Prints one line above the bars.
    pub fn note(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.bars.suspend(|| anstderr(line.as_ref()));
        }
    }

    /// A bar that counts bytes.
    pub fn bytes(&self, what: &str, total: u64) -> ProgressBar {
        self.bar(what, total, "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {wide_msg}")
    }

    /// A bar that counts things.
    pub fn items(&self, what: &str, total: u64) -> ProgressBar {
        self.bar(what, total, "{prefix:>12} [{bar:30}] {pos}/{len} {wide_msg}")
    }

    /// Runs a step: a spinner while it lasts, then one line with its duration.
    pub fn step<T>(&self, what: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let bar = self.bar(what, 0, "{prefix:>12} {spinner} {elapsed}");
        bar.enable_steady_tick(Duration::from_millis(120));
        let start = Instant::now();
        let result = run();
        bar.finish_and_clear();
        if result.is_ok() {
            self.done(what, start);
        }
        result
    }

    /// Says that a step that began at `start` is done, and how long it took.
    pub fn done(&self, what: &str, start: Instant) {
        self.note(format!("{what:>12} {:.1} s", start.elapsed().as_secs_f64()));
    }

    fn bar(&self, what: &str, total: u64, template: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_prefix(what.to_owned());
        self.bars.add(bar)
    }
}

/// The one place that writes talk to stderr.
fn anstderr(line: &str) {
    eprintln!("{line}");
}
