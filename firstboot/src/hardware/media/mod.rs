//! Whether the GPU encodes and decodes video: by doing it.
//!
//! A driver, its firmware and a library may all be there and still not work together; nobody notices but that a
//! film stutters while the CPU does the work. So a clip is made, and sent through the GPU by the image's own ffmpeg in
//! every way that the profile names ([`super::Graphics`]), and through the CPU for comparison. What the GPU has encoded
//! must be decoded by the CPU, and ffmpeg is told so that it cannot fall back to the CPU unnoticed.

mod commands;
mod report;
mod run;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::description::{Codec, Graphics};
use super::{Description, Interface};
use commands::{Clip, Direction};
pub use report::{Outcome, Report, Row};
use run::Ffmpeg;

/// Longer than this nothing takes: 300 small frames, on a CPU of 6 W some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the test needs of the system.
#[derive(Debug, Clone)]
pub struct Test {
    /// The GPU's node for programs that do not draw on a screen.
    node: PathBuf,
    graphics: Graphics,
    ffmpeg: Ffmpeg,
}

impl Test {
    /// The test for the system below `root`; in words why there is none, where the image or the machine has no GPU.
    pub fn of_system(root: &Path, description: &Description) -> Result<Self, String> {
        let node = render_node(root);
        let Some(graphics) = description.graphics.clone() else {
            let seen = if node.is_some() { "though the machine has one" } else { "and the machine shows none" };
            return Err(format!("the image of profile `{}` uses no GPU, {seen}", description.profile));
        };
        let node = node.ok_or_else(|| {
            format!("no GPU: /dev/dri has no render node, so the driver {} has found nothing to drive", graphics.module)
        })?;
        let program = root.join("usr/bin/ffmpeg");
        if !program.exists() {
            return Err("the image has no ffmpeg".to_owned());
        }
        let ffmpeg =
            Ffmpeg { program: vec![program.into()], va_driver: graphics.va_driver.clone(), patience: PATIENCE };
        Ok(Self { node, graphics, ffmpeg })
    }

    /// Goes through all codecs; files are written to `folder`, which should be in memory and is emptied afterwards.
    ///
    /// # Errors
    /// The clip cannot be made. What the GPU cannot do is in the report.
    pub fn run(&self, folder: &Path) -> anyhow::Result<Report> {
        let scratch = Scratch::new(folder)?;
        let clip = Clip { folder: &scratch.0, node: &self.node };
        self.ffmpeg.run(&clip.generate()).map_err(anyhow::Error::msg).context("making the clip")?;
        let mut codecs = [self.graphics.encodes.clone(), self.graphics.decodes.clone()].concat();
        codecs.sort();
        codecs.dedup();
        let rows = codecs.into_iter().flat_map(|codec| self.codec(&clip, codec)).collect();
        Ok(Report { node: self.node.clone(), rows })
    }

    fn codec(&self, clip: &Clip<'_>, codec: Codec) -> Vec<Row> {
        // The CPU's encoder makes the clip that is decoded, so it comes first and is not optional.
        let software = [Direction::Encode, Direction::Decode].map(|direction| {
            let done = self.ffmpeg.run(&clip.software(codec, direction));
            done.map(|done| done.frames_per_second(clip.frames()))
        });
        let mut rows = Vec::new();
        let wanted = [(Direction::Encode, &self.graphics.encodes), (Direction::Decode, &self.graphics.decodes)];
        for ((direction, codecs), software) in wanted.into_iter().zip(software) {
            for interface in self.graphics.interfaces.iter().filter(|_| codecs.contains(&codec)) {
                let outcome = match &software {
                    Ok(software) => self.hardware(clip, codec, direction, *interface, *software),
                    Err(why) => Outcome::Failed(format!("the CPU cannot do it either: {why}")),
                };
                rows.push(Row { codec, direction: direction.name(), interface: *interface, outcome });
            }
        }
        rows
    }

    fn hardware(&self, clip: &Clip<'_>, codec: Codec, direction: Direction, by: Interface, software: f64) -> Outcome {
        let done = match self.ffmpeg.run(&clip.hardware(codec, direction, by)) {
            Ok(done) => done,
            Err(why) => return Outcome::Failed(why),
        };
        if direction == Direction::Encode
            && let Err(why) = self.ffmpeg.run(&clip.check_encoded(codec))
        {
            return Outcome::Failed(format!("what the GPU has encoded cannot be decoded: {why}"));
        }
        let frames_per_second = done.frames_per_second(clip.frames());
        Outcome::Works { frames_per_second, times_software: frames_per_second / software, engine: done.engine }
    }
}

/// The first render node, as the kernel numbers them (128 and up).
fn render_node(root: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(root.join("dev/dri")).ok()?.flatten();
    let nodes = entries.map(|entry| entry.path());
    nodes.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD"))).min()
}

/// A folder that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        fs_err::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it: it lies in memory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
