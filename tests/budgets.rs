//! Every profile builds: its root passes the lints (each device of its board finds driver and firmware), and root and image
//! stay within what the profile allows. Nobody has to have the boards for that.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use larder_tests::{larder, target_folder, workspace};

#[test]
fn every_profile_builds_within_its_budget() -> Result<()> {
    let listed = run(&["profiles"])?;
    let names: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names.len() >= 6, "only these profiles: {names:?}");
    let folder = target_folder()?.join("sizes");
    fs_err::create_dir_all(&folder)?;
    for name in names {
        // Images of all profiles at once would take ten gigabytes.
        let out = tempfile::tempdir_in(&folder)?;
        let path = out.path().to_str().context("the folder's name is UTF-8")?;
        run(&["build", "--locked", "--profile", name, "--version", "0.1.0", "--out", path])?;
        for file in ["img", "img.zst", "root.erofs", "uki.efi", "manifest.json", "SHA256SUMS"] {
            ensure!(out.path().join(format!("larder-{name}-0.1.0.{file}")).exists(), "{name} has no {file}");
        }
        fs_err::write(folder.join(format!("{name}.txt")), run(&["sizes", "--locked", "--profile", name])?)?;
    }
    Ok(())
}

/// What larder prints; its errors are this test's.
fn run(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(larder()?).args(arguments).current_dir(workspace()).output().context("starting larder")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "larder {}: {}\n{said}", arguments.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}
