//! apt-get in its tools tree, asked what it would install on an empty system.
//!
//! `apt-get --print-uris` names the packages that it would fetch. It decides exactly as `--simulate` does,
//! which also puts the installation in order, and is many times slower for that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use larder::project::Project;
use larder::solve::PackageRequest;

use crate::mirror::Mirror;
use crate::verdict::{Answer, Packages};

/// Sandboxes at work at the same time.
const WORKERS: usize = 2;

/// An apt-get that knows the mirror's packages.
pub struct Apt<'a> {
    project: &'a Project,
    folder: &'a Path,
}

/// What apt-get is asked to install, and under which conditions.
pub struct Question {
    words: Vec<String>,
    /// apt_preferences(5)
    preferences: String,
    /// What dpkg says of the system.
    status: String,
}

impl Question {
    /// The request as it is.
    pub fn new(request: &PackageRequest) -> Self {
        let essential = request.essential.then(|| "?essential".to_owned());
        let words = request.include.iter().cloned().chain(essential).collect();
        Self { words, preferences: preferences(request), status: status(request) }
    }

    /// These packages of these versions, under the request's conditions.
    pub fn exactly(request: &PackageRequest, packages: &Packages) -> Self {
        let words = packages.iter().map(|(name, version)| format!("{name}={version}")).collect();
        Self { words, preferences: preferences(request), status: status(request) }
    }
}

impl<'a> Apt<'a> {
    /// Makes apt read the mirror's indices.
    pub fn new(project: &'a Project, mirror: &'a Mirror, request: &PackageRequest) -> Result<Self> {
        let apt = Self { project, folder: mirror.folder.path() };
        for name in ["lists/partial", "cache/archives/partial", "no-parts"] {
            fs_err::create_dir_all(apt.folder.join(name))?;
        }
        apt.write("status", "")?;
        apt.write("apt.conf", &configuration(apt.folder, request))?;
        apt.write("sources.list", &sources(apt.folder, request))?;
        let say = format!("export APT_CONFIG={}/apt.conf", apt.folder.display());
        apt.run("update.sh", &format!("set -e\n{say}\napt-get --quiet update\napt-cache gencaches\n"))?;
        Ok(apt)
    }

    /// The answers, in the order of the questions.
    pub fn ask(&self, questions: &[Question]) -> Result<Vec<Answer>> {
        let mut scripts = vec![String::new(); WORKERS];
        let mut jobs = Vec::new();
        for (number, question) in questions.iter().enumerate() {
            let job = tempfile::Builder::new().prefix("question-").tempdir_in(self.folder)?;
            scripts[number % WORKERS].push_str(&self.prepare(job.path(), question)?);
            jobs.push(job);
        }
        std::thread::scope(|scope| {
            let work = |number: usize| self.run(&format!("ask-{number}.sh"), &scripts[number]);
            let workers: Vec<_> = (0..WORKERS).map(|number| scope.spawn(move || work(number))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap())
        })?;
        jobs.iter().map(|job| read_answer(job.path())).collect()
    }

    /// Writes a question down; returns the command that answers it.
    fn prepare(&self, job: &Path, question: &Question) -> Result<String> {
        fs_err::write(job.join("preferences"), &question.preferences)?;
        // apt's cache is made for the empty status, and good as long as that file is not written again.
        let mut status = self.folder.join("status");
        if !question.status.is_empty() {
            status = job.join("status");
            fs_err::write(&status, &question.status)?;
        }
        let words: String = question.words.iter().map(|word| format!(" '{word}'")).collect();
        let (folder, job, status) = (self.folder.display(), job.display(), status.display());
        Ok(format!(
            "APT_CONFIG={folder}/apt.conf apt-get --yes --print-uris -o Dir::State::status={status} \
             -o Dir::Etc::preferences={job}/preferences install{words} >{job}/out 2>{job}/err\n\
             echo $? >{job}/exit\n"
        ))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        Ok(fs_err::write(self.folder.join(path), text)?)
    }

    /// Runs a shell script in the tools tree.
    fn run(&self, name: &str, script: &str) -> Result<()> {
        self.write(name, script)?;
        let output = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["--quiet", "--project"])
            .arg(self.project.root())
            .args(["tools", "run", "apt", "--bind"])
            .arg(self.folder)
            .args(["--", "dash"])
            .arg(self.folder.join(name))
            .output()?;
        ensure!(
            output.status.success(),
            "{name} ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// apt.conf(5). Signatures were verified when the mirror was made. apt counts itself among the essential
/// packages unless another name is given.
fn configuration(folder: &Path, request: &PackageRequest) -> String {
    let architectures: String = request.architectures.iter().map(|name| format!("\"{name}\"; ")).collect();
    format!(
        r#"APT::Architecture "{native}";
APT::Architectures {{ {architectures}}};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/no-parts";
Dir::Etc::preferencesparts "{folder}/no-parts";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
pkgCacheGen::ForceEssential ",";
"#,
        native = request.architectures[0],
        folder = folder.display(),
    )
}

/// sources.list(5)
fn sources(folder: &Path, request: &PackageRequest) -> String {
    let mut text = String::new();
    for archive in &request.archives {
        for suite in &archive.suites {
            let (folder, components) = (folder.join(&archive.name), archive.components.join(" "));
            writeln!(text, "deb [trusted=yes] file:{} {suite} {components}", folder.display()).unwrap();
        }
    }
    text
}

/// apt_preferences(5): pins and forbidden packages.
fn preferences(request: &PackageRequest) -> String {
    let mut text = String::new();
    for (name, suite) in &request.pins {
        writeln!(text, "Package: {name}\nPin: release n={suite}\nPin-Priority: 1001\n").unwrap();
    }
    for name in &request.forbid {
        writeln!(text, "Package: {name}\nPin: version *\nPin-Priority: -1\n").unwrap();
    }
    text
}

/// dpkg's status: nothing, or one package that provides what larder does itself.
fn status(request: &PackageRequest) -> String {
    if request.provided.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = request.provided.iter().map(String::as_str).collect();
    format!(
        "Package: larder\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMulti-Arch: foreign\n\
         Maintainer: larder\nProvides: {}\nDescription: what larder does itself\n\n",
        names.join(", ")
    )
}

fn read_answer(job: &Path) -> Result<Answer> {
    let (out, err) = (fs_err::read_to_string(job.join("out"))?, fs_err::read_to_string(job.join("err"))?);
    if fs_err::read_to_string(job.join("exit"))? != "0\n" {
        return Ok(Answer::Refused(out + &err));
    }
    // `'file:/…/wine32_10.0~repack-6_i386.deb' wine32_10.0~repack-6_i386.deb 2600 MD5Sum:…`
    let files = out.lines().filter(|line| line.starts_with('\'')).filter_map(|line| line.split(' ').nth(1));
    let packages: Option<BTreeMap<_, _>> = files.map(package).collect();
    Ok(Answer::Packages(packages.with_context(|| format!("not what apt-get usually says:\n{out}"))?))
}

fn package(file: &str) -> Option<(String, String)> {
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some((full_name(name, architecture), version.replace("%3a", ":")))
}

/// `libc6`, `libc6:i386`
pub fn full_name(name: &str, architecture: &str) -> String {
    match architecture {
        "all" | "amd64" => name.to_owned(),
        foreign => format!("{name}:{foreign}"),
    }
}
