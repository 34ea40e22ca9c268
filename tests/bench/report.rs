//! From measurements to rows, and to the text around the table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use larder_tests::workspace;
use serde::Serialize;

use crate::boot;
use crate::limits::Limits;
use crate::measure::Usage;
use crate::place::run;
use crate::statistics::{Summary, summary};
use crate::steps;
use crate::table::{Goal, Row, markdown};

/// What is measured, and of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Run {
    FullByLarder,
    FullByMkosi,
    OverlayByLarder,
    OverlayByMkosi,
    PackageByLarder,
    PackageByMkosi,
    NothingByLarder,
    LockByLarder,
    LockByApt,
    BootOfLarder,
    BootOfMkosi,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FullByLarder => "full build, larder",
            Self::FullByMkosi => "full build, mkosi",
            Self::OverlayByLarder => "one file changed, larder",
            Self::OverlayByMkosi => "one file changed, mkosi",
            Self::PackageByLarder => "one package changed, larder",
            Self::PackageByMkosi => "one package changed, mkosi",
            Self::NothingByLarder => "nothing changed, larder",
            Self::LockByLarder => "lock, larder",
            Self::LockByApt => "lock, apt",
            Self::BootOfLarder => "boot, larder",
            Self::BootOfMkosi => "boot, mkosi",
        })
    }
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measurements {
    usages: BTreeMap<Run, Vec<Usage>>,
    /// What the last run of each kind said.
    said: BTreeMap<Run, String>,
    /// Bounds that hold for every builder.
    pub(crate) limits: Option<Limits>,
    /// Packages that only mkosi's image has, or in another version.
    pub(crate) other_packages: Vec<String>,
}

impl Measurements {
    /// One more.
    pub(crate) fn add(&mut self, run: Run, usage: Usage, said: String) {
        self.usages.entry(run).or_default().push(usage);
        self.said.insert(run, said);
    }

    fn usages(&self, run: Run) -> &[Usage] {
        self.usages.get(&run).map_or(&[], Vec::as_slice)
    }

    fn said(&self, run: Run) -> &str {
        self.said.get(&run).map_or("", String::as_str)
    }

    fn seconds(&self, run: Run) -> Option<Summary> {
        summary(&self.usages(run).iter().map(|usage| usage.seconds).collect::<Vec<_>>())
    }

    /// In MiB, the most of all builds.
    fn memory(&self, runs: &[Run]) -> Option<Summary> {
        let usages = runs.iter().flat_map(|run| self.usages(*run));
        let most = usages.map(|usage| usage.peak_memory).max()?;
        summary(&[most as f64 / f64::from(1 << 20)])
    }

    /// Median of the processor time of a run, in seconds.
    fn cpu(&self, run: Run) -> Option<f64> {
        let seconds: Vec<f64> = self.usages(run).iter().map(|usage| usage.cpu_seconds).collect();
        Some(summary(&seconds)?.median)
    }

    fn rows(&self) -> Result<Vec<Row>> {
        let times = [
            ("full build", Run::FullByLarder, Some(Run::FullByMkosi), Goal::Part(8.0)),
            ("one file of an overlay changed", Run::OverlayByLarder, Some(Run::OverlayByMkosi), Goal::Part(10.0)),
            ("one package changed", Run::PackageByLarder, Some(Run::PackageByMkosi), Goal::Part(6.0)),
            ("nothing changed", Run::NothingByLarder, None, Goal::Seconds(0.5)),
            ("lock, indices at hand (against apt)", Run::LockByLarder, Some(Run::LockByApt), Goal::Seconds(1.0)),
            ("power-on to multi-user", Run::BootOfLarder, Some(Run::BootOfMkosi), Goal::Part(2.0)),
        ];
        let mut rows = Vec::new();
        for (name, run, peer, goal) in times {
            let larder = self.seconds(run).with_context(|| format!("{run} was not measured"))?;
            let peer = peer.and_then(|peer| self.seconds(peer));
            rows.push(Row { name, larder, peer, goal, dominated: self.dominated(run) });
        }
        let memory = "most memory of a build";
        let [larder, peer] = [
            [Run::FullByLarder, Run::OverlayByLarder, Run::PackageByLarder],
            [Run::FullByMkosi, Run::OverlayByMkosi, Run::PackageByMkosi],
        ]
        .map(|runs| self.memory(&runs));
        let larder = larder.context("no memory was measured")?;
        rows.push(Row { name: memory, larder, peer, goal: Goal::Mebibytes(1024.0), dominated: String::new() });
        Ok(rows)
    }

    /// The longest step, and what bounds it.
    fn dominated(&self, run: Run) -> String {
        let said = self.said(run);
        if run == Run::BootOfLarder {
            return boot::longest_phase(said)
                .map_or_else(String::new, |(name, seconds)| format!("{name} {seconds:.1} s"));
        }
        let Some(step) = steps::longest(said) else { return String::new() };
        let name = step.name.to_lowercase();
        let bound = self.limits.map_or_else(String::new, |limits| limits.of(&name));
        format!("{name} {:.1} s{bound}", step.seconds)
    }
}

impl Limits {
    /// What bounds a step of that name, as words in brackets.
    fn of(&self, step: &str) -> String {
        match step {
            "unpacking" => format!(" (decoding alone: {:.1} s)", self.decoding),
            "configuring" => " (dpkg and the packages' scripts)".to_owned(),
            "publishing" | "image" | "compressing" => {
                format!(" (writing {:.0} MiB alone: {:.1} s)", self.mebibytes, self.writing)
            }
            _ => String::new(),
        }
    }
}

/// What it was measured on.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Cores that may be used.
    pub(crate) cores: usize,
    /// The model, as /proc/cpuinfo has it.
    pub(crate) model: String,
    /// What was built: the commit, with a mark when there were changes.
    pub(crate) commit: String,
    /// Whether the virtual machine ran on the CPU itself.
    pub(crate) accelerated: bool,
}

impl Machine {
    /// This machine.
    pub(crate) fn here(larder: &Path) -> Result<Self> {
        let launcher = larder_qemu::LarderTools { larder: larder.to_owned() };
        let mut describe = Command::new("git");
        describe.args(["describe", "--always", "--dirty"]).current_dir(workspace());
        let cpuinfo = fs_err::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            model: model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned()),
            commit: run(&mut describe).map_or_else(|_| "unknown".to_owned(), |commit| commit.trim().to_owned()),
            accelerated: larder_qemu::Acceleration::detect(&launcher)? == larder_qemu::Acceleration::Kvm,
        })
    }
}

/// The table and what it was measured with.
pub(crate) fn text(measurements: &Measurements, machine: &Machine, packages: usize) -> Result<String> {
    let repetitions = match measurements.usages(Run::FullByLarder).len() {
        1 => "measured once".to_owned(),
        more => format!("median of {more} (least–most)"),
    };
    let boots = if machine.accelerated { "with KVM" } else { "emulated" };
    let mut text = markdown(&measurements.rows()?);
    text.push_str(&format!(
        "\n{repetitions} in turns on {} cores ({}); {packages} packages; boots are {boots}; larder at {}.\n",
        machine.cores, machine.model, machine.commit
    ));
    if let (Some(larder), Some(peer)) = (measurements.cpu(Run::FullByLarder), measurements.cpu(Run::FullByMkosi)) {
        text.push_str(&format!(
            "A full build takes {larder:.1} s of processor time with larder, {peer:.1} s with mkosi.\n"
        ));
    }
    if let Some(limits) = measurements.limits {
        text.push_str(&format!(
            "For comparison: dpkg-deb decodes all packages in {:.1} s on all cores, and writing {:.0} MiB to the disk takes {:.1} s.\n",
            limits.decoding, limits.mebibytes, limits.writing
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(seconds: f64, mebibytes: u64) -> Usage {
        Usage { seconds, cpu_seconds: seconds, peak_memory: mebibytes << 20 }
    }

    fn measurements() -> Measurements {
        let mut all = Measurements::default();
        for factor in [1.0, 1.2] {
            for (run, seconds, said) in [
                (Run::FullByLarder, 12.0, "   Unpacking 5.6 s\n Configuring 5.2 s\n"),
                (Run::FullByMkosi, 110.0, ""),
                (Run::OverlayByLarder, 3.0, "  Publishing 1.9 s\n"),
                (Run::OverlayByMkosi, 32.0, ""),
                (Run::PackageByLarder, 10.0, " Configuring 5.2 s\n"),
                (Run::PackageByMkosi, 70.0, ""),
                (Run::NothingByLarder, 0.4, ""),
                (Run::LockByLarder, 0.8, ""),
                (Run::LockByApt, 5.0, ""),
                (Run::BootOfLarder, 20.0, "Startup finished in 4s (kernel) + 9.5s (initrd) + 6s (userspace) = 20s\n"),
                (Run::BootOfMkosi, 44.0, ""),
            ] {
                all.add(run, usage(seconds * factor, 200), said.to_owned());
            }
        }
        all.limits = Some(Limits { decoding: 4.4, writing: 1.25, mebibytes: 400.0 });
        all
    }

    #[test]
    fn the_text_has_a_row_for_each_goal_and_says_where_it_comes_from() {
        let machine = Machine { cores: 2, model: "Example CPU".into(), commit: "356cfe8".into(), accelerated: false };
        insta::assert_snapshot!(text(&measurements(), &machine, 143).expect("is complete"), @r"
        | | larder | mkosi 25 | ratio | goal | met | larder is busy with |
        |---|---:|---:|---:|---:|---|---|
        | full build | 13.2 s (12.0–14.4) | 121.0 s (110.0–132.0) | 1/9.2 | ≤ 1/8 | yes | unpacking 5.6 s (decoding alone: 4.4 s) |
        | one file of an overlay changed | 3.30 s (3.00–3.60) | 35.2 s (32.0–38.4) | 1/10.7 | ≤ 1/10 | yes | publishing 1.9 s (writing 400 MiB alone: 1.2 s) |
        | one package changed | 11.0 s (10.0–12.0) | 77.0 s (70.0–84.0) | 1/7.0 | ≤ 1/6 | yes | configuring 5.2 s (dpkg and the packages' scripts) |
        | nothing changed | 0.44 s (0.40–0.48) | – | – | ≤ 0.5 s | yes |  |
        | lock, indices at hand (against apt) | 0.88 s (0.80–0.96) | 5.50 s (5.00–6.00) | 1/6.2 | ≤ 1 s | yes |  |
        | power-on to multi-user | 22.0 s (20.0–24.0) | 48.4 s (44.0–52.8) | 1/2.2 | ≤ 1/2 | yes | initrd 9.5 s |
        | most memory of a build | 200 MiB | 200 MiB | 1/1.0 | ≤ 1024 MiB | yes |  |

        median of 2 (least–most) in turns on 2 cores (Example CPU); 143 packages; boots are emulated; larder at 356cfe8.
        A full build takes 13.2 s of processor time with larder, 121.0 s with mkosi.
        For comparison: dpkg-deb decodes all packages in 4.4 s on all cores, and writing 400 MiB to the disk takes 1.2 s.
        ");
    }

    #[test]
    fn a_missing_measurement_is_named() {
        let mut all = measurements();
        all.usages.remove(&Run::BootOfLarder);
        assert_eq!(all.rows().expect_err("is incomplete").to_string(), "boot, larder was not measured");
    }
}
