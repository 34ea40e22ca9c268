//! `larder flash` against `dd bs=4M conv=fsync` and bmaptool: the same image, the same target, in turns.
//!
//! The target is a plain file, whose blocks are all there beforehand, as those of a disk are. It is on the disk of
//! `target/bench`, once as fast as it is and once as slow as a stick ([`Medium`]).

use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::medium::Medium;
use crate::mkosi::duration;
use crate::place::run;
use crate::statistics::{Summary, summary};

const MIB: u64 = 1 << 20;
/// What an image may take of the target; so much of the file is allocated.
const ALLOCATED: u64 = 1024 * MIB;
/// Enough for larder's rules.
const SIZE: u64 = 6_000_001_024 / 4096 * 4096;
const NAME: &str = "usb-bench_1234";

/// The tools tree with dd and bmaptool.
const TREE: &str = "flash";

/// One way to flash, and what it took: to have all written, and to have it verified too.
struct Way {
    name: &'static str,
    written: Vec<f64>,
    verified: Vec<f64>,
}

/// Speed of the medium that stands for a stick or a card, in MB a second.
const STICK: u64 = 60;

/// Measures all ways so often, on a medium of [`STICK`] and on the disk of this machine as it is, and gives the tables.
pub(crate) fn bench(repetitions: u32) -> Result<String> {
    let bench = Bench::prepare()?;
    let (size, data) = bench.shares()?;
    let mut text = String::new();
    match Medium::slow(&bench.folder, STICK * 1_000_000) {
        Ok(stick) => {
            let ways = bench.ways(repetitions, &stick)?;
            text.push_str(&format!("On a medium of {STICK} MB/s:\n\n{}\n", table(&ways)));
        }
        Err(error) => eprintln!("no slow medium (root can make one, where the kernel has control groups): {error:#}"),
    }
    let ways = bench.ways(repetitions, &Medium::Disk)?;
    text.push_str(&format!("On the disk of the machine that the table was made on:\n\n{}\n", table(&ways)));
    let empty = 100.0 * (1.0 - data as f64 / size as f64);
    text.push_str(&format!("The image has {} MiB, {empty:.0} % of them empty.", size / MIB));
    Ok(text)
}

impl Way {
    fn add(&mut self, (written, verified): (f64, Option<f64>)) {
        eprintln!("  {}: {written:.2} s", self.name);
        self.written.push(written);
        self.verified.extend(verified);
    }
}

/// Image and target.
struct Bench {
    folder: PathBuf,
    program: PathBuf,
    image: PathBuf,
    compressed: PathBuf,
}

impl Bench {
    /// All ways in turns.
    fn ways(&self, repetitions: u32, medium: &Medium) -> Result<[Way; 4]> {
        let mut ways = ["larder flash", "larder flash, from `.img.zst`", "`bmaptool copy`", "`dd bs=4M conv=fsync`"]
            .map(|name| Way { name, written: Vec::new(), verified: Vec::new() });
        for repetition in 1..=repetitions {
            eprintln!("repetition {repetition} of {repetitions}");
            let [ours, compressed, bmaptool, dd] = &mut ways;
            ours.add(self.larder(&self.image, medium)?);
            compressed.add(self.larder(&self.compressed, medium)?);
            bmaptool.add((self.bmaptool(medium)?, None));
            dd.add((self.dd(medium)?, None));
        }
        Ok(ways)
    }

    fn prepare() -> Result<Self> {
        let folder = larder_tests::target_folder()?.join("bench/flash");
        fs_err::create_dir_all(&folder)?;
        let bench = Self {
            program: larder_tests::larder()?,
            image: folder.join("larder.img"),
            compressed: folder.join("larder.img.zst"),
            folder,
        };
        let image = std::fs::File::open(larder_tests::image()?)?;
        let copy = fs_err::File::create(&bench.image)?;
        larder::image::sparse::copy(&image, copy.file(), 0)?;
        fs_err::copy(larder_tests::image()?.with_extension("img.zst"), &bench.compressed)?;
        run(&mut bench.tool("bmaptool create --output larder.bmap larder.img"))?;
        bench.make_machine()?;
        Ok(bench)
    }

    fn target(&self) -> PathBuf {
        self.folder.join("machine/dev/sda")
    }

    /// A folder in which larder finds the target as if it were a disk.
    fn make_machine(&self) -> Result<()> {
        let machine = self.folder.join("machine");
        if machine.exists() {
            fs_err::remove_dir_all(&machine)?;
        }
        let disk = "sys/devices/usb1/block/sda";
        for (path, text) in [
            ("proc/self/mountinfo", String::new()),
            ("run/udev/data/b8:0", "E:ID_SERIAL_SHORT=1234\n".to_owned()),
            (&format!("{disk}/size"), (SIZE / 512).to_string()),
            (&format!("{disk}/dev"), "8:0".to_owned()),
            (&format!("{disk}/queue/logical_block_size"), "512".to_owned()),
        ] {
            let path = machine.join(path);
            fs_err::create_dir_all(path.parent().context("a file has no folder")?)?;
            fs_err::write(path, text)?;
        }
        for folder in ["sys/block", "dev/disk/by-id"] {
            fs_err::create_dir_all(machine.join(folder))?;
        }
        symlink(machine.join(disk), machine.join("sys/block/sda"))?;
        symlink("../../sda", machine.join("dev/disk/by-id").join(NAME))?;
        fs_err::File::create(self.target())?.set_len(SIZE)?;
        Ok(())
    }

    /// The target in the state of a disk that was in use: full of something else, nothing of it in the page cache's queue.
    fn restore_target(&self) -> Result<()> {
        let file = fs_err::OpenOptions::new().write(true).open(self.target())?;
        let old: Vec<u8> = (0..MIB).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        (0..ALLOCATED / MIB).try_for_each(|i| file.file().write_all_at(&old, i * MIB))?;
        file.set_len(SIZE)?;
        file.sync_all()?;
        nix::unistd::sync();
        Ok(())
    }

    /// All of the program's time but for verification; and with it.
    fn larder(&self, image: &Path, medium: &Medium) -> Result<(f64, Option<f64>)> {
        self.restore_target()?;
        let mut flash = Command::new(&self.program);
        flash.arg("flash").arg("--image").arg(image).args(["--yes-serial", "1234", "--device"]);
        flash.arg(Path::new("/dev/disk/by-id").join(NAME)).env("LARDER_TEST_MACHINE", self.folder.join("machine"));
        let start = Instant::now();
        let output = medium.on(flash).output()?;
        let all = start.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "larder flash failed: {said}");
        Ok((all - verifying(&said)?, Some(all)))
    }

    fn dd(&self, medium: &Medium) -> Result<f64> {
        self.timed("dd if=larder.img of=machine/dev/sda bs=4M conv=fsync,notrunc status=none", medium)
    }

    fn bmaptool(&self, medium: &Medium) -> Result<f64> {
        self.timed("bmaptool --quiet copy --bmap larder.bmap larder.img machine/dev/sda", medium)
    }

    /// Without the time that it takes to enter the tools tree.
    fn timed(&self, command: &str, medium: &Medium) -> Result<f64> {
        self.restore_target()?;
        let tool = self.tool(&format!("start=$EPOCHREALTIME; {command} && echo $start $EPOCHREALTIME"));
        duration(&run(&mut medium.on(tool))?)
    }

    /// A command line in the bench's folder.
    fn tool(&self, script: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["tools", "run", TREE, "--bind"]).arg(&self.folder).args(["--", "bash", "-euc"]);
        command.arg(format!("cd '{}'; {script}", self.folder.display())).current_dir(larder_tests::workspace());
        command
    }

    /// Size of the image, and what of it is data.
    fn shares(&self) -> Result<(u64, u64)> {
        let metadata = fs_err::metadata(&self.image)?;
        Ok((metadata.len(), metadata.blocks() * 512))
    }
}

/// `    Verified 1.2 s; you can pull it out`
fn verifying(said: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Verified ")).context("nothing was verified")?;
    let (seconds, _) = line.split_once(" s").context("larder does not say how long it took")?;
    Ok(seconds.parse()?)
}

fn table(ways: &[Way]) -> String {
    let mut text = String::from("| | written | verified too |\n|---|---:|---:|\n");
    for Way { name, written, verified } in ways {
        let (written, verified) = (summary(written), summary(verified));
        text.push_str(&format!("| {name} | {} | {} |\n", shown(written), shown(verified)));
    }
    text
}

fn shown(summary: Option<Summary>) -> String {
    summary.map_or_else(|| "–".to_owned(), |of| format!("{:.2} s ({:.2}–{:.2})", of.median, of.least, of.most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_verification_is_told_by_larder_itself() {
        assert_eq!(
            verifying("     Written 186.3 MB in 2.0 s\n    Verified 1.2 s; you can pull it out\n").expect("is there"),
            1.2
        );
        assert!(verifying("Written").is_err());
    }

    #[test]
    fn the_table_shows_both_figures_where_there_are_two() {
        let way = |name, written: &[f64], verified: &[f64]| Way {
            name,
            written: written.to_vec(),
            verified: verified.to_vec(),
        };
        let ways = [way("larder flash", &[2.0, 1.0, 3.0], &[3.0]), way("dd", &[8.0], &[])];
        insta::assert_snapshot!(table(&ways), @r"
        | | written | verified too |
        |---|---:|---:|
        | larder flash | 2.00 s (1.00–3.00) | 3.00 s (3.00–3.00) |
        | dd | 8.00 s (8.00–8.00) | – |
        ");
    }
}
