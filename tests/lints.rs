//! The finished root passes its lints, and they are no decoration: faults that are put into it are found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use larder_tests::{larder, workspace};

#[test]
fn the_root_of_the_profile_qemu_passes_without_exceptions() -> Result<()> {
    let output = lint(workspace())?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    ensure!(said.starts_with("qemu: ") && said.contains(" lints found nothing to mend in "), "it said {said:?}");
    ensure!(!said.contains("accepted:"), "the profile makes exceptions: {said}");
    Ok(())
}

/// What is put into the image, and what must be said about it.
const FAULTS: &[(&str, &str, &str)] = &[
    ("etc/shadow", "root:$y$j9T$salt$hash:20309:0:99999:7:::\n", "/etc/shadow: root has a password"),
    ("etc/hostid", "abcd", "/etc/hostid: is the host id, by which ZFS tells machines apart"),
    ("etc/ssh/ssh_host_rsa_key", "key", "/etc/ssh/ssh_host_rsa_key: is an SSH host key"),
    (
        "etc/modules-load.d/x.conf",
        "nonesuch\n",
        "/etc/modules-load.d/x.conf: asks for the module nonesuch, which the image does not have",
    ),
    ("mnt/file", "", "/mnt/file: is hidden by what the initrd mounts at /mnt"),
    ("strange/file", "", "/strange: is not a top-level folder of the image"),
    ("var/log/syslog", "", "/var/log/syslog: is a log of the build"),
    ("usr/bin/open", "#!/bin/sh\n", "/usr/bin/open: every user may write to it (mode 0777)"),
    ("usr/bin/strong", "#!/bin/sh\n", "/usr/bin/strong: runs as user root (mode 4755)"),
    ("usr/bin/orphan", "#!/usr/bin/ruby\n", "/usr/bin/orphan: belongs to user 4711, which is not in /etc"),
    (
        "usr/bin/orphan",
        "#!/usr/bin/ruby\n",
        "/usr/bin/orphan: is a script for /usr/bin/ruby, which is not in the image",
    ),
    (
        "usr/lib/systemd/system/faulty.service",
        UNIT,
        "/usr/lib/systemd/system/faulty.service: line 2: Unknown key 'Descripton' in section [Unit], ignoring.",
    ),
    (
        "usr/lib/systemd/system/faulty.service",
        UNIT,
        "/usr/lib/systemd/system/faulty.service: Command /usr/bin/nonesuch is not executable: No such file or directory",
    ),
    (
        "usr/lib/systemd/system/faulty.service",
        UNIT,
        "/usr/lib/systemd/system/faulty.service: runs as user nobody-here, which does not exist",
    ),
    (
        "etc/systemd/system/dbus.service",
        "[Service]\nExecStart=/usr/bin/true\n",
        "/etc/systemd/system/dbus.service: hides /usr/lib/systemd/system/dbus.service",
    ),
];

const UNIT: &str = "[Unit]\nDescripton=x\n[Service]\nExecStart=/usr/bin/nonesuch\nUser=nobody-here\n";

/// Modes and owners that git does not keep.
const MANIFEST: &str = r#"schema = 1
[[path]]
path = "/usr/bin/open"
mode = "0777"
[[path]]
path = "/usr/bin/strong"
mode = "4755"
[[path]]
path = "/usr/bin/orphan"
mode = "0755"
owner = 4711
"#;

const SKIPS: &str = r#"
[[lint.skip]]
name = "foreign-paths"
path = "/strange"
reason = "the test wants it"

[[lint.skip]]
name = "setuid"
path = "/usr/bin/gone"
reason = "it was there once"
"#;

#[test]
fn faults_in_a_finished_root_are_found_all_at_once() -> Result<()> {
    let project = tempfile::tempdir()?;
    for folder in ["profiles", "overlays"] {
        copy(&workspace().join(folder), &project.path().join(folder))?;
    }
    let overlay = project.path().join("overlays/faulty");
    for (path, content, _) in FAULTS {
        write(&overlay.join("root").join(path), content)?;
    }
    write(&overlay.join("overlay.toml"), MANIFEST)?;
    let profile = project.path().join("profiles/qemu.toml");
    let asked = fs_err::read_to_string(&profile)?.replace("overlays = [", "overlays = [\"faulty\", ");
    write(&profile, &asked)?;

    let said = refusal(&lint(project.path())?)?;
    for (_, _, expected) in FAULTS {
        ensure!(said.contains(&format!("\n    {expected}\n")), "not found: {expected}\n{said}");
    }

    write(&profile, &format!("{asked}{SKIPS}"))?;
    let out = tempfile::tempdir()?;
    let mut build = Command::new(larder()?);
    build
        .args(["build", "--profile", "qemu", "--locked", "--project"])
        .arg(project.path())
        .arg("--out")
        .arg(out.path());
    let said = refusal(&build.output().context("starting larder")?)?;
    ensure!(fs_err::read_dir(out.path())?.next().is_none(), "an image with faults was published");
    ensure!(!said.contains("/strange: "), "what the profile accepts is a finding:\n{said}");
    ensure!(
        said.contains("\n    setuid /usr/bin/gone: it was there once\n"),
        "a skip of nothing is not reported:\n{said}"
    );
    Ok(())
}

/// What the lints say of a root that they refuse.
fn refusal(output: &Output) -> Result<String> {
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(1), "the status is {}\n{said}", output.status);
    Ok(said)
}

fn lint(project: &Path) -> Result<Output> {
    let mut lint = Command::new(larder()?);
    lint.args(["lint", "--profile", "qemu", "--locked", "--project"]).arg(project);
    lint.output().context("starting larder")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write(path: &Path, content: &str) -> Result<()> {
    fs_err::create_dir_all(path.parent().context("a file has a folder")?)?;
    Ok(fs_err::write(path, content)?)
}

/// Copies a folder; links stay links.
fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&source, &target)?,
            kind if kind.is_symlink() => std::os::unix::fs::symlink(fs_err::read_link(&source)?, &target)?,
            _ => fs_err::copy(&source, &target).map(drop)?,
        }
    }
    Ok(())
}
