//! A program that runs in a tree which has nothing else: `probe.rs`, linked statically.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::archive::sha256;
use crate::package::Package;

/// The target of the `firstboot` program.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// The package `probe` with the program `probe`.
pub fn probe(version: &str) -> Package {
    Package::new("probe", version).program("probe", &probe_program())
}

/// The program itself.
pub fn probe_program() -> Vec<u8> {
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| fs_err::read(compiled()).unwrap());
    PROGRAM.clone()
}

/// Compiled once for each state of its source, whichever test process comes first.
fn compiled() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/probe.rs");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join(format!("probe-{}", &sha256(&fs_err::read(&source).unwrap())[..16]));
    if !program.exists() {
        larder::build::ensure_target(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let made = tempfile::tempdir_in(folder).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition=2024", "--target", TARGET, "-Cstrip=symbols", "-Cpanic=abort", "-Copt-level=s", "-o"]);
        let status = command.arg(made.path().join("probe")).arg(&source).status().unwrap();
        assert!(status.success(), "compiling {} for {TARGET}", source.display());
        fs_err::rename(made.path().join("probe"), &program).unwrap();
    }
    program
}
