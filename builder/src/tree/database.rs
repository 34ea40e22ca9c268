//! dpkg's database over a composed tree: every package `unpacked`, as dpkg leaves it before it
//! configures (dpkg(1), "Package states"; /var/lib/dpkg/info is described in dpkg's doc/spec).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::UnpackedPackage;

/// Fields of a package's control file that composing needs.
#[derive(Debug, Default)]
pub(super) struct Control {
    text: String,
    pub(super) replaces: Vec<String>,
    multi_arch_same: bool,
}

impl Control {
    pub(super) fn read(package: &UnpackedPackage) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(package.folder.join("control/control"))?;
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let replaces = field("Replaces").unwrap_or_default().split(',');
        let replaces = replaces.filter_map(|relation| relation.split_whitespace().next()).map(str::to_owned).collect();
        let multi_arch_same = field("Multi-Arch") == Some("same");
        Ok(Self { replaces, multi_arch_same, text: text.trim_end().to_owned() })
    }

    /// The stem of the package's files below `info/`.
    fn info_name(&self, package: &UnpackedPackage) -> String {
        if self.multi_arch_same { format!("{}:{}", package.name, package.architecture) } else { package.name.clone() }
    }
}

/// Writes `var/lib/dpkg` below `root`.
pub(super) fn write(
    root: &Path,
    packages: &[(&UnpackedPackage, &Control, Vec<PathBuf>)],
    provided: &[String],
) -> anyhow::Result<()> {
    let folder = root.join("var/lib/dpkg");
    let info = folder.join("info");
    for sub in ["info", "updates", "triggers", "alternatives", "parts"] {
        fs_err::create_dir_all(folder.join(sub))?;
    }
    fs_err::write(info.join("format"), "1\n")?;
    for empty in ["available", "diversions", "statoverride", "triggers/File", "triggers/Unincorp"] {
        fs_err::write(folder.join(empty), "")?;
    }
    let mut status = String::new();
    for (package, control, paths) in packages {
        status.push_str(&stanza(control)?);
        let name = control.info_name(package);
        fs_err::write(info.join(format!("{name}.list")), list(paths))?;
        for entry in fs_err::read_dir(package.folder.join("control"))? {
            let entry = entry?;
            let kind = entry.file_name();
            if kind != "control" && entry.file_type()?.is_file() {
                fs_err::copy(entry.path(), info.join(format!("{name}.{}", kind.to_string_lossy())))?;
            }
        }
    }
    if !provided.is_empty() {
        write!(
            status,
            "Package: larder-provided\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\
             Maintainer: larder\nProvides: {}\nDescription: what the image builder does itself\n\n",
            provided.join(", ")
        )?;
    }
    fs_err::write(folder.join("status"), status)?;
    Ok(())
}

/// The control paragraph with its state, which dpkg wants right after the name.
fn stanza(control: &Control) -> anyhow::Result<String> {
    let (package, rest) = control.text.split_once('\n').context("a control file has one field only")?;
    Ok(format!("{package}\nStatus: install ok unpacked\n{rest}\n\n"))
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().fold("/.\n".to_owned(), |text, path| text + "/" + &path.to_string_lossy() + "\n")
}
