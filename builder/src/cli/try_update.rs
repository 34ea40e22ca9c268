//! `larder try --update`: two versions of an image, and how the older one becomes the newer one.
//!
//! Everything is as it is for real boxes, but for the release key: it is made for this, stays in the store, and is in
//! images that are booted here and nowhere else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use firstboot::secret::Secret;
use firstboot::update::envelope::Envelope;
use firstboot::update::keys::Keys;
use larder_qemu::{LarderTools, Machine, Vm};

use super::Common;
use super::args::TryArgs;
use crate::build;
use crate::copy_tree::copy_tree;
use crate::profile::Profile;
use crate::project::Project;
use crate::release::keys::{self, History, Signer};
use crate::release::publish::{self, Options};
use crate::release::serve::Serving;
use crate::session::{Limits, Session};

/// The two versions.
const VERSIONS: [&str; 2] = ["1.0", "2.0"];
/// Bound for a start or an installation, on an emulated CPU.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How the host appears to a machine with QEMU's own network.
const HOST: &str = "10.0.2.2";

pub(super) fn run(common: &Common, args: &TryArgs) -> anyhow::Result<ExitCode> {
    build::enter_namespace()?;
    let first = common.session(Limits::from(&args.limits))?;
    let scratch = first.store.scratch("try-update")?;
    let project = copy_project(&first.project, &scratch.path().join("project"))?;
    let signer = release_key(&first, &project)?;
    let session = Session::new(project, first.store.clone(), first.progress, Limits::from(&args.limits));
    let profile = Profile::load(&session.project, &args.profile)?;
    let (out, site) = (scratch.path().join("out"), scratch.path().join("site"));
    let mut images = Vec::new();
    for version in VERSIONS {
        let out = out.join(version);
        let built =
            build::build(&session, &profile, &build::Options { version: Some(version.parse()?), out: out.clone() })?;
        images.push(built.image);
        let options = Options { channel: "stable", days: 1, minimum_version: None, keep: 2, signer: Some(&signer) };
        publish::publish(&session, &out.display().to_string(), &site, &options)?;
    }
    let shown = show(&session, args, &images[0], &site);
    drop(scratch);
    session.end();
    shown?;
    Ok(ExitCode::SUCCESS)
}

/// Profiles and overlays, with room for other keys.
fn copy_project(from: &Project, to: &Path) -> anyhow::Result<Project> {
    for (source, name) in [(from.profiles(), "profiles"), (from.overlays(), "overlays")] {
        copy_tree(&source, &to.join(name))?;
    }
    let copy = Project::find(Some(to), to)?;
    match fs_err::remove_dir_all(keys::folder(&copy)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(copy),
    }
}

/// The key for machines that are tried, which the project is given; the same one each time, so that images that were made
/// before need not be made again.
fn release_key(session: &Session, project: &Project) -> anyhow::Result<Signer> {
    let folder = session.store.until_restart("try-update")?;
    let (key, passphrase) = (folder.join("release.key"), Secret::new("for machines that are tried".to_owned()));
    if !key.exists() {
        keys::generate(&key, &passphrase)?;
    }
    let signer = Signer::open(&key, &passphrase)?;
    let mut envelope = Envelope::unsigned(&Keys { version: 1, keys: vec![signer.public()], threshold: 1 })?;
    // An envelope that is there is taken as it is: signatures differ, and with them the image.
    let kept = folder.join("release-keys.json");
    match fs_err::read(&kept) {
        Ok(there) => envelope = Envelope::parse(&there)?,
        Err(_) => {
            signer.sign(&mut envelope)?;
            keys::write(&kept, &envelope)?;
        }
    }
    History::of(project)?.place(&envelope)?;
    Ok(signer)
}

fn show(session: &Session, args: &TryArgs, image: &PathBuf, site: &Path) -> anyhow::Result<()> {
    let serving = Serving::listen(site, ([127, 0, 0, 1], 0).into())?;
    let settings = format!(
        "schema = 1\n[system]\nhostname = \"larder\"\n[updates]\nfrom = \"http://{HOST}:{}\"\nautomatic = \"off\"\n",
        serving.address().port()
    );
    let launcher = LarderTools { larder: std::env::current_exe().context("finding larder's own program")? };
    let machine = Machine::with_image(image)
        .disks(args.disks, 4 << 30)
        .memory_mib(args.memory)
        .credential("larder.nas-toml", &settings)
        .agent()
        .build(Arc::new(launcher))?;
    thread::scope(|threads| {
        threads.spawn(|| serving.run(|line| session.progress.note(format!("    served: {line}"))));
        let shown = update(session, machine);
        serving.stop();
        shown
    })
}

/// What the owner of a box would type, and what it answers.
fn update(session: &Session, machine: Machine) -> anyhow::Result<()> {
    let say = |text: &str| session.progress.note(text);
    say("starting version 1.0");
    let mut vm = machine.boot()?;
    vm.wait_ready(PATIENCE)?;
    vm.check_within("systemctl start larder-mark-good", PATIENCE)?;
    vm.check_within(
        "for i in $(seq 120); do ip -4 route | grep -q ^default && exit 0; sleep 1; done; exit 1",
        PATIENCE,
    )?;
    for command in ["firstboot update status", "firstboot update check", "firstboot update install"] {
        type_in(&mut vm, command, say)?;
    }
    say("# systemctl reboot");
    vm.reboot(PATIENCE)?;
    vm.check_within("systemctl start larder-mark-good", PATIENCE)?;
    type_in(&mut vm, "firstboot update status", say)?;
    let running = vm.check("sed -n s/^IMAGE_VERSION=//p /usr/lib/os-release")?;
    anyhow::ensure!(running.trim() == VERSIONS[1], "version {} runs", running.trim());
    println!("version {} became {}", VERSIONS[0], VERSIONS[1]);
    vm.shut_down(PATIENCE)?;
    Ok(())
}

fn type_in(vm: &mut Vm, command: &str, say: impl Fn(&str)) -> anyhow::Result<()> {
    say(&format!("# {command}"));
    say(vm.check_within(command, PATIENCE)?.trim_end());
    Ok(())
}
