//! What ffmpeg is told (ffmpeg(1), ffmpeg-codecs(1), <https://trac.ffmpeg.org/wiki/Hardware/VAAPI>, `…/QuickSync`).

use std::path::Path;

use super::super::Interface;
use super::super::description::Codec;

/// The clip is so large, so long, and read so often: 300 frames from 83 MB of memory.
const SIZE: &str = "1280x720";
const RATE: &str = "30";
const FRAMES: usize = 60;
const REPEATED: usize = 4;

/// Which way the video goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Encode,
    Decode,
}

impl Direction {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Decode => "decode",
        }
    }
}

/// Arguments, in order.
pub(super) type Arguments = Vec<String>;

/// A clip, and what is made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip<'a> {
    pub(super) folder: &'a Path,
    pub(super) node: &'a Path,
}

impl Clip<'_> {
    /// Number of frames that every run but the first goes through.
    pub(super) fn frames(&self) -> usize {
        FRAMES * (REPEATED + 1)
    }

    /// Moving shapes and a counter, uncompressed, so that making them costs no time later on.
    pub(super) fn generate(&self) -> Arguments {
        let source = format!("testsrc2=size={SIZE}:rate={RATE}");
        let count = FRAMES.to_string();
        let input = words(&["-f", "lavfi", "-i", &source, "-frames:v", &count]);
        [input, words(&["-pix_fmt", "nv12", "-f", "rawvideo", &self.file("clip.nv12")])].concat()
    }

    /// The CPU's part; its encoder writes what is decoded later.
    pub(super) fn software(&self, codec: Codec, direction: Direction) -> Arguments {
        let file = self.file(&format!("{}.mkv", name(codec)));
        match direction {
            Direction::Encode => {
                let encoder = match codec {
                    Codec::H264 => ["libx264", "-preset", "veryfast"],
                    Codec::Hevc => ["libx265", "-preset", "veryfast"],
                    Codec::Av1 => ["libsvtav1", "-preset", "10"],
                };
                [self.uncompressed(), words(&["-pix_fmt", "yuv420p", "-c:v"]), words(&encoder), vec![file]].concat()
            }
            Direction::Decode => words(&["-i", &file, "-f", "null", "-"]),
        }
    }

    /// The GPU's part. Frames are fetched from the GPU by a filter that takes no others, so a decoder that has fallen
    /// back to the CPU is an error.
    pub(super) fn hardware(&self, codec: Codec, direction: Direction, by: Interface) -> Arguments {
        let node = self.node.display();
        let name = name(codec);
        let device = match by {
            Interface::Vaapi => words(&["-init_hw_device", &format!("vaapi=gpu:{node}"), "-filter_hw_device", "gpu"]),
            Interface::Qsv => words(&[
                "-init_hw_device",
                &format!("vaapi=va:{node}"),
                "-init_hw_device",
                "qsv=gpu@va",
                "-filter_hw_device",
                "gpu",
            ]),
        };
        let interface = match by {
            Interface::Vaapi => "vaapi",
            Interface::Qsv => "qsv",
        };
        let work = match direction {
            Direction::Encode => {
                let upload = match by {
                    Interface::Vaapi => "hwupload",
                    Interface::Qsv => "hwupload=extra_hw_frames=64,format=qsv",
                };
                let encoder = format!("{name}_{interface}");
                [self.uncompressed(), words(&["-vf", upload, "-c:v", &encoder, &self.encoded(codec)])].concat()
            }
            Direction::Decode => {
                let accelerated =
                    words(&["-hwaccel", interface, "-hwaccel_device", "gpu", "-hwaccel_output_format", interface]);
                // Quick Sync has decoders of its own; VA-API is used by ffmpeg's.
                let decoder = match by {
                    Interface::Vaapi => Vec::new(),
                    Interface::Qsv => words(&["-c:v", &format!("{name}_qsv")]),
                };
                let input = words(&["-i", &self.file(&format!("{name}.mkv"))]);
                [accelerated, decoder, input, words(&["-vf", "hwdownload,format=nv12", "-f", "null", "-"])].concat()
            }
        };
        [device, work].concat()
    }

    /// Decodes on the CPU what the GPU has encoded.
    pub(super) fn check_encoded(&self, codec: Codec) -> Arguments {
        words(&["-xerror", "-i", &self.encoded(codec), "-f", "null", "-"])
    }

    fn uncompressed(&self) -> Arguments {
        let (count, file) = (REPEATED.to_string(), self.file("clip.nv12"));
        let format = ["-f", "rawvideo", "-pixel_format", "nv12", "-video_size", SIZE, "-framerate", RATE];
        [words(&format), words(&["-stream_loop", &count, "-i", &file])].concat()
    }

    fn encoded(&self, codec: Codec) -> String {
        self.file(&format!("gpu-{}.mkv", name(codec)))
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// As ffmpeg calls it.
pub(super) fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::Hevc => "hevc",
        Codec::Av1 => "av1",
    }
}

fn words(words: &[&str]) -> Arguments {
    words.iter().map(|word| (*word).to_owned()).collect()
}
