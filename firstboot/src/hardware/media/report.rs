//! What the test has to say.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::super::Interface;
use super::super::description::Codec;
use super::commands;

/// The whole test.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The GPU.
    pub node: PathBuf,
    /// One row for each codec, direction and way to the GPU.
    pub rows: Vec<Row>,
}

/// One thing that the GPU should be able to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// What is encoded or decoded.
    pub codec: Codec,
    /// Which of the two.
    pub direction: &'static str,
    /// How ffmpeg reaches the GPU.
    pub interface: Interface,
    /// Whether it can.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether the GPU could do it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Outcome {
    /// It could.
    Works {
        /// Its speed.
        frames_per_second: f64,
        /// How often that is the CPU's.
        times_software: f64,
        /// Which part of the GPU has done it, where the driver tells.
        engine: Option<String>,
    },
    /// It could not; why, in ffmpeg's words.
    Failed(String),
}

impl Report {
    /// Whether the GPU could do everything that it should.
    pub fn is_good(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| matches!(row.outcome, Outcome::Works { .. }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "GPU {}", self.node.display())?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = match self.interface {
            Interface::Qsv => "qsv",
            Interface::Vaapi => "vaapi",
        };
        write!(f, "{:4}  {}  {interface:5}  ", commands::name(self.codec), self.direction)?;
        match &self.outcome {
            Outcome::Works { frames_per_second, times_software, engine } => {
                let engine = engine.as_deref().unwrap_or("not told");
                write!(f, "{frames_per_second:6.0} frames/s  {times_software:5.1} x CPU  engine {engine}")
            }
            Outcome::Failed(why) => write!(f, "FAILED  {why}"),
        }
    }
}
