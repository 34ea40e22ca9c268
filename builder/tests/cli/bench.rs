//! One test's project, cache and mirror, and the program at work there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use tempfile::TempDir;

use crate::archive::sha256;
use crate::mirror::Mirror;

/// The program under test.
pub const LARDER: &str = env!("CARGO_BIN_EXE_larder");

/// A tools tree and a profile, each of which wants the package `probe`.
const BASE: &str = r#"schema = 1
[[archive]]
name = "debian"
mirror = "http://deb.debian.org/debian"
suites = ["trixie"]
components = ["main"]
keys = ["test.asc"]

[variables]
hostname = "larder"
"#;
const NAS: &str = "schema = 1\ninherits = \"base\"\n[packages]\ninclude = [\"probe\"]\n";
const TOOLS: &str = "schema = 1\ndescription = \"a program for the tests\"\npackages = [\"probe\"]\n";

pub struct Bench {
    folder: TempDir,
    pub mirror: Mirror,
    _filters: insta::internals::SettingsBindDropGuard,
}

impl Bench {
    /// A project whose profile `nas` and tools tree `kit` want `probe`, and a mirror without packages.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::start();
        let filters = filters(folder.path(), &mirror.address());
        let bench = Self { folder, mirror, _filters: filters };
        for path in ["profiles/archives", "profiles/tools", "overlays"] {
            fs_err::create_dir_all(bench.project(path)).unwrap();
        }
        fs_err::write(bench.project("profiles/archives/test.asc"), bench.mirror.public_key()).unwrap();
        bench.write("profiles/base.toml", BASE);
        bench.write("profiles/nas.toml", NAS);
        bench.write("profiles/tools/kit.toml", TOOLS);
        bench
    }

    /// A path of the project.
    pub fn project(&self, path: &str) -> PathBuf {
        self.folder.path().join("project").join(path)
    }

    /// A path of the cache.
    pub fn cache(&self, path: &str) -> PathBuf {
        self.folder.path().join("cache").join(path)
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        fs_err::write(self.project(path), text).unwrap();
    }

    /// Reads a file of the project.
    pub fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.project(path)).unwrap()
    }

    /// A folder outside of project and cache.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs_err::create_dir_all(&folder).unwrap();
        folder
    }

    /// The program at work on the project.
    pub fn larder(&self, args: &[&str]) -> Command {
        let project = self.folder.path().join("project");
        self.in_environment(LARDER, &[&["--project", project.to_str().unwrap()], args].concat())
    }

    /// A program with nothing of this machine's environment but the way to programs.
    pub fn in_environment(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder("home"));
        command.env("LARDER_CACHE_DIR", self.folder.path().join("cache"));
        command.env("LARDER_MIRROR_DEBIAN", self.mirror.address());
        command
    }

    /// Runs the program, which must succeed; what it said on stderr.
    pub fn does(&self, args: &[&str]) -> String {
        let said = self.ends(&mut self.larder(args), 0);
        self.has_nothing_half_written();
        said.stderr
    }

    /// Runs the program, which must succeed; what it printed on stdout.
    pub fn prints(&self, args: &[&str]) -> String {
        self.ends(&mut self.larder(args), 0).stdout
    }

    /// Runs the program, which must refuse with the status of what a person can mend; its complaint.
    pub fn refuses(&self, args: &[&str]) -> String {
        self.refuses_to(&mut self.larder(args))
    }

    /// The same for a command that the caller has prepared.
    pub fn refuses_to(&self, command: &mut Command) -> String {
        let said = self.ends(command, 1);
        assert_eq!(said.stdout, "");
        self.has_nothing_half_written();
        said.stderr
    }

    /// Runs a command, which must end with this status.
    pub fn ends(&self, command: &mut Command, status: i32) -> Said {
        let said = Said::from(command.output().unwrap());
        assert_eq!(said.status.code(), Some(status), "{command:?}\n{}{}", said.stdout, said.stderr);
        said
    }

    /// The locks of the project.
    pub fn locks(&self) -> Vec<String> {
        let mut names: Vec<String> = files(&self.project("profiles")).iter().map(|path| name(path)).collect();
        names.retain(|name| name.ends_with(".lock"));
        names
    }

    /// Blobs are what their names say, partial files can be resumed, nothing else is under way.
    pub fn has_nothing_half_written(&self) {
        for path in files(&self.cache("v1/blobs")) {
            assert_eq!(sha256(&fs_err::read(&path).unwrap()), name(&path), "{} is damaged", path.display());
        }
        for path in files(&self.cache("v1/partial")) {
            let (content, whole) = (fs_err::read(&path).unwrap(), self.mirror.published(&name(&path)));
            let resumable = whole.is_some_and(|whole| !content.is_empty() && whole.starts_with(&content));
            assert!(resumable, "{} cannot be resumed", path.display());
        }
        let tmp = fs_err::read_dir(self.cache("v1/tmp")).into_iter().flatten().map(|entry| entry.unwrap().path());
        assert_eq!(tmp.collect::<Vec<_>>(), Vec::<PathBuf>::new());
        let hidden = files(&self.project("")).into_iter().find(|path| name(path).starts_with('.'));
        assert_eq!(hidden, None);
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// All files below a folder, which need not exist, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().flatten();
    entries.filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// What differs from run to run.
fn filters(folder: &Path, mirror: &str) -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    let folder = folder.display();
    for (pattern, instead) in [
        (format!("{folder}/project"), "PROJECT"),
        (format!("{folder}/cache"), "CACHE"),
        (format!("{folder}"), "FOLDER"),
        (mirror.to_owned(), "http://MIRROR/debian"),
        (r"\b[0-9a-f]{64}\b".to_owned(), "SHA256"),
        (r"\b[0-9A-F]{40}\b".to_owned(), "FINGERPRINT"),
        (r"blobs/[0-9a-f]{2}/".to_owned(), "blobs/XX/"),
        // What compilers and compressors make may have another size with their next version.
        (r"of \d+ bytes".to_owned(), "of SIZE bytes"),
        (r"size = \d+".to_owned(), "size = SIZE"),
        (r"takes up to [\d.]+ MiB".to_owned(), "takes up to SIZE"),
        (r"-v1-[A-Za-z0-9]{6}\b".to_owned(), "-v1-RANDOM"),
        (r"-staging-[A-Za-z0-9]{6}\b".to_owned(), "-staging-RANDOM"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z".to_owned(), "TIME"),
    ] {
        settings.add_filter(&pattern, instead);
    }
    settings.bind_to_scope()
}
