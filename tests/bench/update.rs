//! What an update takes: larder's delta against other ways to get from one system to the next, on one real pair.
//!
//! The older system is the profile as it would be without Debian's security updates, locked in a copy of the project; the
//! newer one is the profile with them. Both are built with the same overlays and programs. All ways get the same two root
//! file systems and UKIs. Packages, tools and results are those of the person's own store.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use firstboot::update::recipe::Bounds;
use indicatif::ProgressBar;
use larder::copy_tree::copy_tree;
use larder::image::output::Manifest;
use larder::release::delta::{self, System};
use larder_tests::{without_security, workspace};

use crate::place::run;

const BLOCK: usize = 4096;
/// How RAUC's manual has bundles packed for streaming: squashfs, in blocks of this.
const SQUASHFS_BLOCK: usize = 64 << 10;
/// The tools tree of the others.
const TREE: &str = "deltas";
/// What is compared: both parts of a system.
const PARTS: [&str; 2] = ["root.erofs", "uki.efi"];

/// One way, and what it takes.
struct Row {
    name: &'static str,
    /// Bytes to fetch.
    fetch: u64,
    /// Seconds to prepare it, once for all appliances.
    make: Option<f64>,
    /// Seconds to make the new system of the old one and this.
    apply: Option<f64>,
}

/// Adds the rows of one way to send it.
type Way = fn(&Bench, &mut Vec<Row>) -> Result<()>;

/// Builds the pair, measures all ways and gives the table.
pub(crate) fn bench(profile: &str) -> Result<String> {
    let bench = Bench::prepare(profile)?;
    let download = fs_err::metadata(bench.file("2", "img.zst"))?.len();
    let mut rows = vec![Row { name: "the whole `.img.zst`", fetch: download, make: None, apply: None }];
    let ways: [(&str, Way); 5] = [
        ("RAUC", Bench::rauc),
        ("casync", Bench::casync),
        ("zstd", Bench::zstd),
        ("xdelta3", Bench::xdelta3),
        ("larder", Bench::ours),
    ];
    for (name, measure) in ways {
        eprintln!("{name}");
        let before = rows.len();
        measure(&bench, &mut rows)?;
        rows[before..]
            .iter()
            .for_each(|row| eprintln!("  {}: {} bytes, {:?}, {:?}", row.name, row.fetch, row.make, row.apply));
    }
    Ok(table(&rows, download, &bench.pair(profile)?))
}

/// Where it takes place.
struct Bench {
    folder: PathBuf,
    program: PathBuf,
    profile: String,
}

impl Bench {
    fn prepare(profile: &str) -> Result<Self> {
        let folder = larder_tests::target_folder()?.join("bench/update");
        let bench = Self { folder, program: larder_tests::larder()?, profile: profile.to_owned() };
        let (old, new) = (bench.folder.join("project-1"), bench.folder.join("project-2"));
        for project in [&old, &new] {
            if project.exists() {
                fs_err::remove_dir_all(project)?;
            }
            for name in ["profiles", "overlays"] {
                copy_tree(&workspace().join(name), &project.join(name))?;
            }
        }
        without_security(&old)?;
        for what in [["--profile", profile], ["--tools", "zfs"]] {
            eprintln!("{}", run(bench.larder(&old).arg("lock").args(what))?);
        }
        for (version, project) in [("1", &old), ("2", &new)] {
            eprintln!("building version {version} (the first time, ZFS modules: some minutes)");
            let mut build = bench.larder(project);
            run(build
                .args(["build", "--profile", profile, "--version", version, "--out"])
                .arg(bench.folder.join("out")))?;
        }
        Ok(bench)
    }

    fn larder(&self, project: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--project").arg(project);
        command
    }

    fn file(&self, version: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("out/larder-{}-{version}.{ending}", self.profile))
    }

    fn manifest(&self, version: &str) -> Result<Manifest> {
        serde_json::from_slice(&fs_err::read(self.file(version, "manifest.json"))?).context("reading a manifest")
    }

    fn system(&self, version: &str) -> Result<System> {
        let uki = self.file(version, "uki.efi");
        Ok(System {
            root_hash: self.manifest(version)?.root_hash,
            root: self.file(version, "root.erofs"),
            tree: self.file(version, "root.verity"),
            uki_object: delta::object_of(&uki)?,
            uki,
        })
    }

    /// An empty folder for results.
    fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        fs_err::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn made(&self, old: Option<&System>, new: &System, name: &'static str) -> Result<Row> {
        let into = self.scratch("larder")?;
        let start = Instant::now();
        delta::make(old, new, &into, &ProgressBar::hidden())?;
        let make = start.elapsed().as_secs_f64();
        let (recipe, payload) = (into.join(delta::RECIPE), into.join(delta::PAYLOAD));
        let payload_size = fs_err::metadata(&payload)?.len();
        let bounds = Bounds {
            root: new.root_size()?,
            uki: new.uki_object.size,
            payload: payload_size,
            old: old.map(|old| anyhow::Ok((old.root_size()?, old.uki_object.size))).transpose()?,
        };
        let base = old.map(|old| anyhow::Ok((std::fs::File::open(&old.root)?, fs_err::read(&old.uki)?))).transpose()?;
        let start = Instant::now();
        let base = base.as_ref().map(|(root, uki)| (root, &uki[..]));
        let (root, uki) = delta::follow((&recipe, &payload), &bounds, base, &into)?;
        let apply = start.elapsed().as_secs_f64();
        for (made, wanted) in [(root, &new.root), (uki, &new.uki)] {
            ensure!(delta::object_of(&made)? == delta::object_of(wanted)?, "what came out is not what went in");
        }
        let fetch = fs_err::metadata(&recipe)?.len() + payload_size;
        fs_err::remove_dir_all(into)?;
        Ok(Row { name, fetch, make: Some(make), apply: Some(apply) })
    }

    fn ours(&self, rows: &mut Vec<Row>) -> Result<()> {
        let (old, new) = (self.system("1")?, self.system("2")?);
        rows.push(self.made(Some(&old), &new, "**larder**, from the release before")?);
        let mut full = self.made(None, &new, "larder, from nothing")?;
        full.fetch += fs_err::metadata(&new.tree)?.len();
        rows.push(full);
        Ok(())
    }

    /// The blocks of 4 KiB that neither the old system nor the new one before has. RAUC's index of them has a digest for
    /// each; of a bundle, it fetches what they lie in.
    fn rauc(&self, rows: &mut Vec<Row>) -> Result<()> {
        let (mut plain, mut packed) = (0, 0);
        for part in PARTS {
            let (old, new) = (fs_err::read(self.file("1", part))?, fs_err::read(self.file("2", part))?);
            let mut have: HashSet<&[u8]> = old.chunks(BLOCK).collect();
            let index = (new.len() / BLOCK * 32) as u64;
            let (mut blocks, mut touched) = (0, HashMap::new());
            for (place, block) in new.chunks(BLOCK).enumerate() {
                if have.insert(block) {
                    blocks += block.len() as u64;
                    touched.insert(place * BLOCK / SQUASHFS_BLOCK, ());
                }
            }
            plain += index + blocks;
            packed += index;
            for place in touched.into_keys() {
                let start = place * SQUASHFS_BLOCK;
                let block = &new[start..(start + SQUASHFS_BLOCK).min(new.len())];
                packed += zstd::bulk::compress(block, 15)?.len() as u64;
            }
        }
        let row = |name, fetch| Row { name, fetch, make: None, apply: None };
        rows.push(row("4 KiB blocks, as RAUC finds them, plain", plain));
        rows.push(row("the same from a bundle in blocks of 64 KiB, zstd", packed));
        Ok(())
    }

    /// The chunks of the new system that the old one has not, as casync packs them, and its index.
    fn casync(&self, rows: &mut Vec<Row>) -> Result<()> {
        let folder = self.scratch("casync")?;
        let (mut fetch, mut make) = (0, 0.0);
        for part in PARTS {
            for version in ["1", "2"] {
                let source = self.file(version, part);
                let script = format!(
                    "casync make --without=all --store={version}.castr --chunk-size=65536 {version}-{part}.caibx '{}'",
                    source.display()
                );
                let seconds = self.timed(&folder, &script)?;
                make += if version == "2" { seconds } else { 0.0 };
            }
            fetch += fs_err::metadata(folder.join(format!("2-{part}.caibx")))?.len();
        }
        let have: HashSet<_> = chunks(&folder.join("1.castr"))?.into_keys().collect();
        fetch += chunks(&folder.join("2.castr"))?
            .iter()
            .filter(|(name, _)| !have.contains(*name))
            .map(|(_, size)| size)
            .sum::<u64>();
        fs_err::remove_dir_all(folder)?;
        rows.push(Row { name: "casync, chunks of 64 KiB", fetch, make: Some(make), apply: None });
        Ok(())
    }

    fn zstd(&self, rows: &mut Vec<Row>) -> Result<()> {
        self.patched(
            rows,
            "`zstd --patch-from -19 --ultra --long=31`",
            "zstd --quiet --force --ultra -19 --long=31 -T2 --patch-from=$old $new -o patch",
            "zstd --quiet --force --decompress --long=31 --memory=2048MB --patch-from=$old patch -o made",
        )
    }

    fn xdelta3(&self, rows: &mut Vec<Row>) -> Result<()> {
        self.patched(
            rows,
            "`xdelta3 -9 -S lzma -B 1 GiB`",
            "xdelta3 -f -e -9 -S lzma -B 1073741824 -s $old $new patch",
            "xdelta3 -f -d -B 1073741824 -s $old patch made",
        )
    }

    /// A program that makes a patch for each part.
    fn patched(&self, rows: &mut Vec<Row>, name: &'static str, make: &str, apply: &str) -> Result<()> {
        let folder = self.scratch("patch")?;
        let mut row = Row { name, fetch: 0, make: Some(0.0), apply: Some(0.0) };
        for part in PARTS {
            let parts = format!("old='{}' new='{}'; ", self.file("1", part).display(), self.file("2", part).display());
            let made = self.timed(&folder, &format!("{parts}{make}"))?;
            let applied = self.timed(&folder, &format!("{parts}{apply}"))?;
            let same = delta::object_of(&folder.join("made"))? == delta::object_of(&self.file("2", part))?;
            ensure!(same, "{name} made something else");
            row.fetch += fs_err::metadata(folder.join("patch"))?.len();
            row.make = row.make.map(|so_far| so_far + made);
            row.apply = row.apply.map(|so_far| so_far + applied);
        }
        fs_err::remove_dir_all(folder)?;
        rows.push(row);
        Ok(())
    }

    /// Seconds that a command line of the tools tree takes, without entering the tree.
    fn timed(&self, folder: &Path, script: &str) -> Result<f64> {
        let mut command = Command::new(&self.program);
        command.arg("--project").arg(workspace()).args(["tools", "run", TREE, "--bind"]).arg(&self.folder);
        command.args(["--", "bash", "-euc"]);
        let script = format!("cd '{}'; start=$EPOCHREALTIME; {script}; echo $start $EPOCHREALTIME", folder.display());
        let said = run(command.arg(script))?;
        crate::mkosi::duration(said.lines().last().context("a program said nothing")?)
    }

    /// What the pair is, in a sentence.
    fn pair(&self, profile: &str) -> Result<String> {
        let (old, new) = (self.manifest("1")?, self.manifest("2")?);
        let versions: HashMap<_, _> = old.packages.iter().map(|package| (&package.name, &package.version)).collect();
        let changed =
            new.packages.iter().filter(|package| versions.get(&package.name) != Some(&&package.version)).count();
        Ok(format!(
            "`{profile}` with Debian's security updates of {}, against the same without any: {changed} packages, \
             kernel {} → {}, ZFS modules for it; root file system and UKI.",
            new.snapshot.get(..10).unwrap_or(&new.snapshot),
            old.kernel,
            new.kernel
        ))
    }
}

/// Names and sizes of the chunks in a store of casync.
fn chunks(store: &Path) -> Result<HashMap<String, u64>> {
    let mut chunks = HashMap::new();
    for folder in fs_err::read_dir(store)? {
        for chunk in fs_err::read_dir(folder?.path())? {
            let chunk = chunk?;
            chunks.insert(chunk.file_name().to_string_lossy().into_owned(), chunk.metadata()?.size());
        }
    }
    Ok(chunks)
}

fn table(rows: &[Row], download: u64, pair: &str) -> String {
    let mut text = String::from("| | to fetch | of the image | to make | to apply |\n|---|---:|---:|---:|---:|\n");
    let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1} s"));
    for Row { name, fetch, make, apply } in rows {
        let (size, share) = (*fetch as f64 / 1e6, 100.0 * *fetch as f64 / download as f64);
        text.push_str(&format!(
            "| {name} | {size:.1} MB | {share:.1} % | {} | {} |\n",
            seconds(*make),
            seconds(*apply)
        ));
    }
    text.push_str(&format!("\n{pair}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_each_takes_of_the_whole() {
        let rows = [
            Row { name: "whole", fetch: 200_000_000, make: None, apply: None },
            Row { name: "delta", fetch: 12_345_678, make: Some(61.04), apply: Some(2.0) },
        ];
        insta::assert_snapshot!(table(&rows, 200_000_000, "A pair."), @r"
        | | to fetch | of the image | to make | to apply |
        |---|---:|---:|---:|---:|
        | whole | 200.0 MB | 100.0 % | – | – |
        | delta | 12.3 MB | 6.2 % | 61.0 s | 2.0 s |

        A pair.
        ");
    }
}
