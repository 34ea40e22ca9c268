//! `systemd-analyze verify`, by the image's own systemd, in a sandbox whose `/` is the image.

use std::path::Path;

use super::{FOLDERS, file_of, is_unit, links};
use crate::lint::root::Kind;
use crate::lint::{Finding, Root};
use crate::namespace::Sandbox;

/// The instance of a template that systemd-analyze makes up.
const MADE_UP: &str = "test_instance";

const MEND: &str = "mend the unit, by a drop-in where it is a package's; or leave it out (`files.exclude`)";

/// Checks every unit of the image, enabled or not: what starts it may be a device, a timer, a person.
pub(super) fn verify(root: &Root, sandbox: &Sandbox) -> anyhow::Result<Vec<Finding>> {
    let units = units(root);
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let arguments = ["verify", "--man=no", "--recursive-errors=one"].into_iter().map(str::to_owned);
    let output = sandbox.command("/usr/bin/systemd-analyze").args(arguments.chain(units)).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // 0 without complaints, 1 with some. What the sandbox says when it does not come up is no complaint of a unit.
    let came_up = matches!(output.status.code(), Some(0 | 1)) && !said.lines().any(|line| line.starts_with("error: "));
    anyhow::ensure!(came_up, "`systemd-analyze verify` failed ({}):\n{}", output.status, said.trim_end());
    Ok(findings(root, &said))
}

/// Names of all units: files, links, instances of templates.
fn units(root: &Root) -> Vec<String> {
    let entries = FOLDERS.iter().flat_map(|folder| root.entries(folder));
    let files = entries.filter_map(|(name, node)| match node.kind {
        // A template of larder's or Debian's, or an alias of another unit, is checked like any unit.
        Kind::File { .. } if is_unit(name) => Some(name.to_owned()),
        // `getty@tty1.service.d` holds drop-ins of one instance.
        Kind::Folder => name.strip_suffix(".d").filter(|name| is_unit(name) && name.contains('@')).map(str::to_owned),
        _ => None,
    });
    let mut names: Vec<_> = files.chain(links(root).map(|(_, name)| name.to_owned())).collect();
    names.retain(|name| file_of(root, name).is_some());
    names.sort();
    names.dedup();
    names
}

/// One finding for each line that is a complaint.
fn findings(root: &Root, said: &str) -> Vec<Finding> {
    let complaints = said.lines().map(str::trim).filter(|line| !line.is_empty() && !is_harmless(line));
    let mut found: Vec<_> = complaints.map(|line| finding(root, line)).collect();
    found.dedup();
    found
}

fn is_harmless(line: &str) -> bool {
    // Masking is how units are switched off, and what a template's instance belongs to exists when it is started.
    line.ends_with(" is masked.") || line.contains(MADE_UP) && line.ends_with(" not found.")
        // Said once more of a unit whose mistakes were named before.
        || line.ends_with(" has a bad unit file setting.")
}

/// Attributes a line to the file that it is about.
fn finding(root: &Root, line: &str) -> Finding {
    // `/usr/lib/systemd/system/a.service:2: Unknown key …`
    if let Some((place, message)) = line.split_once(": ")
        && let Some((path, number)) = place.rsplit_once(':')
        && path.starts_with('/')
        && number.parse::<u32>().is_ok()
    {
        return Finding { path: path.to_owned(), message: format!("line {number}: {message}"), remedy: MEND.into() };
    }
    // `Configuration file /usr/lib/systemd/system/a.service is marked …`
    if let Some((path, message)) = line.strip_prefix("Configuration file ").and_then(|rest| rest.split_once(' ')) {
        return Finding { path: path.to_owned(), message: message.to_owned(), remedy: MEND.into() };
    }
    // `a.service: Command /usr/bin/x is not executable: …`
    if let Some((unit, message)) = line.split_once(": ")
        && is_unit(unit)
    {
        let path = file_of(root, unit).unwrap_or_else(|| Path::new(FOLDERS[2]).join(unit));
        return Finding::new(&path, message, MEND);
    }
    Finding::new(FOLDERS[2], line, MEND)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Tree;
    use super::*;

    #[test]
    fn complaints_are_told_by_their_files() {
        let root =
            Tree::new().file("etc/systemd/system/a.service", "").file("usr/lib/systemd/system/e@.service", "").root();
        // As systemd 257 says them.
        let said = "\
Unit hwclock.service is masked.
/usr/lib/systemd/system/d.timer:2: Failed to parse calendar specification, ignoring: blurb
d.timer: Timer unit lacks value setting. Refusing.
Unit d.timer has a bad unit file setting.
Configuration file /usr/lib/systemd/system/b.service is marked executable. Please remove executable permission bits. Proceeding anyway.
systemd-growfs@test_instance.service: Failed to create systemd-growfs@test_instance.service/start: Unit test_instance.mount not found.
a.service: Failed to create a.service/start: Unit nonesuch.service not found.
e@test_instance.service: Command /usr/bin/nonesuch is not executable: No such file or directory
Requested transaction contains an unfixable cyclic ordering dependency: Transaction order is cyclic. See system logs for details.
";
        let found: Vec<_> = findings(&root, said).iter().map(Finding::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @"
        /usr/lib/systemd/system/d.timer: line 2: Failed to parse calendar specification, ignoring: blurb
        /usr/lib/systemd/system/d.timer: Timer unit lacks value setting. Refusing.
        /usr/lib/systemd/system/b.service: is marked executable. Please remove executable permission bits. Proceeding anyway.
        /etc/systemd/system/a.service: Failed to create a.service/start: Unit nonesuch.service not found.
        /usr/lib/systemd/system/e@.service: Command /usr/bin/nonesuch is not executable: No such file or directory
        /usr/lib/systemd/system: Requested transaction contains an unfixable cyclic ordering dependency: Transaction order is cyclic. See system logs for details.
        ");
    }

    #[test]
    fn units_are_files_links_and_instances_with_drop_ins() {
        let root = Tree::new()
            .file("usr/lib/systemd/system/a.service", "")
            .file("usr/lib/systemd/system/t@.service", "")
            .file("usr/lib/systemd/system/t@x.service.d/y.conf", "")
            .file("usr/lib/systemd/system/README", "")
            .link("etc/systemd/system/multi-user.target.wants/t@z.service", "/usr/lib/systemd/system/t@.service")
            .link("etc/systemd/system/multi-user.target.wants/gone.service", "/usr/lib/systemd/system/gone.service")
            .root();
        assert_eq!(units(&root), ["a.service", "t@.service", "t@x.service", "t@z.service"]);
    }
}
