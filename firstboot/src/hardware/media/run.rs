//! Runs ffmpeg, for a limited time, and watches which part of the GPU is busy.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::commands::Arguments;

/// How often the program is looked at.
const PACE: Duration = Duration::from_millis(20);

/// So many lines of what went wrong are passed on: ffmpeg begins with the cause and ends with what followed from it.
const SAID: usize = 3;

/// Said of every run: quiet, never asks, overwrites its own files.
const ALWAYS: &[&str] = &["-hide_banner", "-nostdin", "-loglevel", "error", "-y"];

/// The program.
#[derive(Debug, Clone)]
pub(super) struct Ffmpeg {
    /// Itself and what comes before all arguments.
    pub(super) program: Vec<OsString>,
    /// libva's driver.
    pub(super) va_driver: String,
    /// How long a run may take.
    pub(super) patience: Duration,
}

/// A run that went well.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Done {
    took: Duration,
    /// The engine of the GPU that has worked longest, as its driver calls it.
    pub(super) engine: Option<String>,
}

impl Done {
    pub(super) fn frames_per_second(&self, frames: usize) -> f64 {
        frames as f64 / self.took.as_secs_f64().max(0.001)
    }
}

impl Ffmpeg {
    /// Runs it to its end; in words why that failed.
    pub(super) fn run(&self, arguments: &Arguments) -> Result<Done, String> {
        let start = Instant::now();
        let (program, first) = self.program.split_first().ok_or("no program")?;
        let mut child = Command::new(program)
            .args(first)
            .args(ALWAYS)
            .args(arguments)
            .env("LIBVA_DRIVER_NAME", &self.va_driver)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("starting {}: {error}", program.display()))?;
        let said = listen(&mut child);
        let mut engines = Engines::default();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if start.elapsed() > self.patience => {
                    let ended = child.kill().and_then(|()| child.wait());
                    let seconds = self.patience.as_secs_f64();
                    return Err(match ended {
                        Ok(_) => format!("it did not end within {seconds} s"),
                        Err(error) => format!("it did not end within {seconds} s and cannot be ended: {error}"),
                    });
                }
                Ok(None) => {
                    engines.look(child.id());
                    std::thread::sleep(PACE);
                }
                Err(error) => return Err(format!("waiting for ffmpeg: {error}")),
            }
        };
        let took = start.elapsed();
        let said = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if !status.success() {
            let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(SAID).collect();
            let said = if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") };
            return Err(format!("{said} ({status})"));
        }
        Ok(Done { took, engine: engines.busiest() })
    }
}

/// Reads what the program says beside it, so that it never waits for a full pipe.
fn listen(child: &mut Child) -> Option<std::thread::JoinHandle<String>> {
    let mut pipe = child.stderr.take()?;
    Some(std::thread::spawn(move || {
        let mut said = Vec::new();
        // What was read before an error is as good as nothing more.
        let _ = pipe.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }))
}

/// Nanoseconds that a program has kept each engine busy: `drm-engine-video: 1234 ns` in `/proc/PID/fdinfo`
/// (Documentation/gpu/drm-usage-stats.rst).
#[derive(Debug, Default)]
struct Engines {
    busy: BTreeMap<String, u64>,
}

impl Engines {
    fn look(&mut self, pid: u32) {
        let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        for file in files {
            // A file that was closed meanwhile.
            let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
            self.read(&text);
        }
    }

    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, value)) = line.strip_prefix("drm-engine-").and_then(|rest| rest.split_once(':')) else {
                continue;
            };
            let Some(busy) = value.trim().strip_suffix(" ns").and_then(|value| value.parse::<u64>().ok()) else {
                continue;
            };
            let known = self.busy.entry(name.to_owned()).or_default();
            *known = busy.max(*known);
        }
    }

    fn busiest(&self) -> Option<String> {
        let busy = self.busy.iter().filter(|(_, busy)| **busy > 0);
        busy.max_by_key(|(_, busy)| **busy).map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_that_worked_longest_is_the_one() {
        let mut engines = Engines::default();
        engines.read("pos:\t0\ndrm-driver:\ti915\ndrm-engine-render:\t500 ns\ndrm-engine-video:\t100 ns\n");
        engines.read("drm-engine-video:\t90000 ns\ndrm-engine-capacity-video:\t2\n");
        assert_eq!(engines.busiest().as_deref(), Some("video"));
        assert_eq!(Engines::default().busiest(), None);
    }
}
