//! A build may end at any moment, by SIGKILL or by a power cut: the next one makes up for it.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::bench::{Bench, files};
use crate::miniature::BUILD;
use crate::package::random;

/// After so many kills a build may finish, and must be right.
const CHECK_EVERY: usize = 10;

/// A number from the environment, for those who want another one or the same as last time.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn a_build_killed_at_any_moment_is_made_up_for_by_the_next() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("LARDER_TEST_SEED").unwrap_or(since_1970.subsec_nanos().into());
    let kills = number("LARDER_TEST_KILLS").unwrap_or(100);
    println!("{kills} kills; the same moments again: LARDER_TEST_SEED={seed}");
    let mut chaos = Chaos::begin(seed);
    for kill in 1..=usize::try_from(kills).unwrap() {
        while !chaos.kill_once() {}
        chaos.nothing_false_is_published();
        if chaos.one_in(3) {
            power_cut(&chaos.bench);
        }
        if kill % CHECK_EVERY == 0 {
            chaos.finish();
        }
    }
    chaos.finish();
    println!("kills by what was there: {:?}", chaos.hits);
    let said = chaos.bench.ends(&mut chaos.bench.larder(&["cache", "verify"]), 0);
    assert!(said.stdout.ends_with("are what they were\n"), "{}", said.stdout);
}

struct Chaos {
    bench: Bench,
    random: Box<dyn Iterator<Item = u64>>,
    /// What a build makes that nobody disturbs.
    expected: Vec<(String, String)>,
    /// How long a build takes, by what it finds in the cache ([`Chaos::prepare`]).
    durations: [Duration; 3],
    hits: [usize; 3],
}

impl Chaos {
    fn begin(seed: u64) -> Self {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let bench = Bench::miniature();
        let start = Instant::now();
        bench.does(&BUILD);
        let durations = [start.elapsed(); 3];
        bench.is_whole("out");
        let expected = bench.outputs("out");
        Self { bench, random: Box::new(random(seed).skip(1)), expected, durations, hits: [0; 3] }
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.random.next().unwrap() >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// A build that is killed at a random moment; false when it was done before that.
    fn kill_once(&mut self) -> bool {
        let state = self.prepare();
        let bound = u64::try_from(self.durations[state].as_micros()).unwrap();
        let moment = Duration::from_micros(self.below(bound.max(1)));
        let start = Instant::now();
        let mut larder = self.start();
        sleep(moment.saturating_sub(start.elapsed()));
        let done = larder.try_wait().unwrap();
        if let Some(status) = done {
            assert!(status.success(), "a build that was not disturbed ends with {status}");
            self.durations[state] = start.elapsed();
            return false;
        }
        kill(larder);
        self.hits[state] += 1;
        true
    }

    /// What the build finds: nothing, all but one kind of results, or whatever the one before left.
    fn prepare(&mut self) -> usize {
        let state = self.below(3) as usize;
        match state {
            0 => {
                fs_err::remove_dir_all(self.bench.cache("")).unwrap();
                self.bench.seed_firstboot();
            }
            1 => {
                let mut buckets = buckets(&self.bench);
                buckets.retain(|bucket| !bucket.ends_with("firstboot-v1"));
                if !buckets.is_empty() {
                    let bucket = self.below(buckets.len() as u64) as usize;
                    fs_err::remove_dir_all(&buckets[bucket]).unwrap();
                }
            }
            _ => {}
        }
        state
    }

    /// In a process group of its own, with all that it starts.
    fn start(&self) -> Child {
        let mut larder = self.bench.larder(&BUILD);
        larder.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Blobs are what their names say, and a folder with checksums is complete, at every moment.
    fn nothing_false_is_published(&self) {
        for path in files(&self.bench.cache("v1/blobs")) {
            let digest = larder::hash::Hash::of_file(&path).unwrap().to_string();
            assert!(path.ends_with(&digest), "{} is half-written", path.display());
        }
        if self.bench.folder("out").join("larder-nas-1.SHA256SUMS").exists() {
            let mut outputs = self.bench.outputs("out");
            outputs.retain(|output| self.expected.contains(output));
            assert_eq!(outputs, self.expected);
        }
    }

    /// A build that may finish: it gives the same bytes, and leaves nothing that it does not need.
    fn finish(&self) {
        self.bench.does(&BUILD);
        assert_eq!(self.bench.outputs("out"), self.expected);
    }
}

fn kill(mut larder: Child) {
    let group = Pid::from_raw(i32::try_from(larder.id()).unwrap());
    killpg(group, Signal::SIGKILL).unwrap();
    larder.wait().unwrap();
    // What it had started is now a child of this process; until it is gone it may still write.
    while waitpid(Pid::from_raw(-group.as_raw()), None).is_ok() {}
}

fn buckets(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = fs_err::read_dir(bench.cache("v1"))
        .map_or_else(|_| vec![], |list| list.map(|entry| entry.unwrap().path()).collect());
    folders.retain(|path| path.to_string_lossy().ends_with("-v1"));
    folders.sort();
    folders
}

/// What a power cut does besides: whatever was not yet safely on the disk is empty or full of zeros, and the
/// machine has another boot id.
fn power_cut(bench: &Bench) {
    for path in buckets(bench).iter().flat_map(|bucket| files_at(bucket)) {
        if path.extension().is_some_and(|extension| extension == "state") && fs_err::read(&path).unwrap() != b"durable"
        {
            fs_err::write(&path, "e7a0c0de-0000-4000-8000-000000000000").unwrap();
            for file in files(&path.with_extension("")) {
                let metadata = fs_err::symlink_metadata(&file).unwrap();
                // Files with several names are another entry's too, which may be safe.
                if metadata.is_file() && metadata.nlink() == 1 {
                    let _ = fs_err::File::options().write(true).truncate(true).open(&file);
                }
            }
        }
    }
    for path in files(&bench.cache("v1/partial")) {
        let length = fs_err::metadata(&path).unwrap().len();
        fs_err::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
    }
}

fn files_at(folder: &Path) -> Vec<std::path::PathBuf> {
    fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}
