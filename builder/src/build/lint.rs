//! The lints, as a stage: a root that passed them once with the same profile passes again.

use anyhow::Context as _;

use super::Layered;
use crate::lint::{self, Layers, Machine, Report, Root};
use crate::namespace::{OverlayMount, RootTree, Sandbox};
use crate::profile::Profile;
use crate::recipe::Recipe;
use crate::session::Session;
use crate::store::Bucket;

/// The stage's one file.
const REPORT: &str = "report.json";

/// A machine id for systemd to look at; which one does not matter.
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef\n";

/// What the lints say of the finished root.
///
/// # Errors
/// A [`Mistake`](crate::report::Mistake) that lists what they found and the profile does not accept.
pub(super) fn check(session: &Session, profile: &Profile, root: &Layered) -> anyhow::Result<Report> {
    let mut lint = Recipe::new("lint", lint::REVISION);
    lint.hash("root", &root.key).field("accepted", serde_json::to_vec(&profile.accepts)?);
    let folder = session.store.entry(Bucket::Lints, &lint, |into| {
        let report = session.progress.step("Lints", || look(session, profile, root))?;
        Ok(fs_err::write(into.join(REPORT), serde_json::to_vec(&report)?)?)
    })?;
    serde_json::from_slice(&fs_err::read(folder.join(REPORT))?).context("reading what the lints said before")
}

fn look(session: &Session, profile: &Profile, root: &Layered) -> anyhow::Result<Report> {
    let scratch = session.store.scratch("lint")?;
    let (merged, machine_id) = (scratch.path().join("root"), scratch.path().join("machine-id"));
    fs_err::create_dir(&merged)?;
    fs_err::write(&machine_id, MACHINE_ID)?;
    let mount = OverlayMount::new(&root.folders, None, &merged)?;
    let sandbox = Sandbox::new(RootTree { lowers: root.folders.clone(), upper: None });
    let sandbox = sandbox.bind(&machine_id, "/etc/machine-id".as_ref());
    let layers = Layers { folders: &root.folders, written: &root.written };
    let root = Root::walk(mount.path(), layers, machine(session), Some(sandbox))?;
    Ok(lint::run(&root, &profile.accepts)?.verdict(&profile.name)?)
}

/// What of this machine may have got into the image.
fn machine(session: &Session) -> Machine {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let home = variable("HOME");
    let cargo = [variable("CARGO_HOME"), format!("{home}/.cargo"), format!("{home}/.rustup")];
    let folders = [session.store.folder().to_owned(), session.project.root().to_owned(), home.into()];
    let folders = folders.into_iter().chain(cargo.map(Into::into)).filter(|folder| folder.is_absolute());
    let host = nix::unistd::gethostname().unwrap_or_default();
    Machine { folders: folders.collect(), host: host.to_string_lossy().into_owned(), user: variable("USER") }
}
