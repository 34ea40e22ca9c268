//! `larder keys`

use std::path::Path;
use std::process::ExitCode;

use firstboot::update::envelope::Envelope;
use firstboot::update::keys::Keys;

use super::Common;
use super::args::{KeyArgs, KeysVerb};
use super::publish::signer;
use crate::release::keys::{self, History, Placed, Signer};
use crate::release::passphrase;
use crate::report::Mistake;

pub(super) fn run(common: &Common, verb: KeysVerb) -> anyhow::Result<ExitCode> {
    match verb {
        KeysVerb::New { file, passphrase_file } => new(common, &file, passphrase_file.as_deref())?,
        KeysVerb::Show => show(common)?,
        KeysVerb::Rotate { add, remove, threshold, key } => rotate(common, &add, &remove, threshold, &key)?,
        KeysVerb::Sign { file, key, passphrase_file } => {
            let key = KeyArgs { key: Some(key), passphrase_file };
            sign(common, &file, &key)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new(common: &Common, file: &Path, passphrase_file: Option<&Path>) -> anyhow::Result<()> {
    let history = History::of(&common.project()?)?;
    let passphrase = passphrase::new(file, passphrase_file)?;
    let public = keys::generate(file, &passphrase)?;
    println!("{public}");
    let progress = common.progress();
    progress.note(format!(
        "The secret key is in {}. Keep a copy of it, and its passphrase, where this machine is not:\n\
         without them, no appliance that knows this key takes an update any more.",
        file.display()
    ));
    if history.newest().is_some() {
        progress.note(format!("It does not count yet: larder keys rotate --add {public} --key FILE"));
        return Ok(());
    }
    let mut envelope = Envelope::unsigned(&Keys { version: 1, keys: vec![public], threshold: 1 })?;
    Signer::open(file, &passphrase)?.sign(&mut envelope)?;
    say_placed(common, &history.place(&envelope)?)
}

fn show(common: &Common) -> anyhow::Result<()> {
    let history = History::of(&common.project()?)?;
    let keys = history.trusted()?.keys();
    println!("version {}, {} of {} must sign", keys.version, keys.threshold, keys.keys.len());
    keys.keys.iter().for_each(|key| println!("{key}"));
    Ok(())
}

fn rotate(
    common: &Common,
    add: &[String],
    remove: &[String],
    threshold: Option<u32>,
    key: &KeyArgs,
) -> anyhow::Result<()> {
    let history = History::of(&common.project()?)?;
    let known = history.trusted()?.keys();
    if let Some(unknown) = remove.iter().find(|key| !known.keys.contains(key)) {
        return Err(Mistake::new(format!("`{unknown}` is not one of the keys"))
            .hint("`larder keys show` lists them")
            .into());
    }
    let mut keys: Vec<_> = known.keys.iter().filter(|key| !remove.contains(key)).cloned().collect();
    keys.extend(add.iter().filter(|key| !known.keys.contains(key)).cloned());
    let threshold = threshold.unwrap_or(known.threshold);
    let next = Keys { version: known.version + 1, keys, threshold };
    if next.keys == known.keys && next.threshold == known.threshold {
        return Err(Mistake::new("nothing would change").hint("name keys to --add and to --remove").into());
    }
    let mut envelope = Envelope::unsigned(&next)
        .map_err(|error| Mistake::new("this set of keys cannot work").because(error).hint("see `larder keys show`"))?;
    if let Some(signer) = signer(key)? {
        signer.sign(&mut envelope)?;
    }
    say_placed(common, &history.place(&envelope)?)
}

fn sign(common: &Common, file: &Path, key: &KeyArgs) -> anyhow::Result<()> {
    let refuse = |error| Mistake::new(format!("{}: this is nothing to sign", file.display())).because(error);
    let mut envelope = Envelope::parse(&fs_err::read(file)?).map_err(refuse)?;
    let progress = common.progress();
    progress.note(format!("Signing {}", keys::what(&envelope)));
    let Some(signer) = signer(key)? else { return Ok(()) };
    signer.sign(&mut envelope)?;
    if envelope.read::<Keys>().is_ok() && is_next(common, file) {
        return say_placed(common, &History::of(&common.project()?)?.place(&envelope)?);
    }
    keys::write(file, &envelope)?;
    println!("{}", file.display());
    Ok(())
}

/// Whether it is the set that waits in this project.
fn is_next(common: &Common, file: &Path) -> bool {
    let next = common.project().map(|project| keys::next(&project));
    next.is_ok_and(|next| next.canonicalize().ok().is_some_and(|next| file.canonicalize().ok() == Some(next)))
}

fn say_placed(common: &Common, placed: &Placed) -> anyhow::Result<()> {
    match placed {
        Placed::Complete(path) => common.progress().note(format!("These keys count from now on: {}", path.display())),
        Placed::Waiting(path, why) => {
            common.progress().note(format!("Not yet: {why}\n  larder keys sign {} --key FILE", path.display()));
        }
    }
    Ok(())
}
