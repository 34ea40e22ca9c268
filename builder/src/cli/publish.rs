//! `larder publish`

use std::process::ExitCode;

use super::Common;
use super::args::{KeyArgs, PublishArgs};
use crate::release::keys::Signer;
use crate::release::passphrase;
use crate::release::publish::{self, Options, Published};
use crate::session::Limits;

pub(super) fn run(common: &Common, args: &PublishArgs) -> anyhow::Result<ExitCode> {
    let session = common.session(Limits { locked: true, offline: args.offline })?;
    let published = match (&args.signed, &args.build) {
        (Some(file), _) => publish::put_signed(&session, file, &args.to)?,
        (None, build) => {
            // The passphrase first: the rest takes minutes.
            let signer = signer(&args.key)?;
            let options = Options {
                channel: &args.channel,
                days: args.expires,
                minimum_version: args.minimum_version.as_deref().map(str::parse).transpose()?,
                keep: args.keep as usize,
                signer: signer.as_ref(),
            };
            publish::publish(&session, build.as_deref().unwrap_or_default(), &args.to, &options)?
        }
    };
    match published {
        Published::Signed(path) => println!("{}", path.display()),
        Published::Unsigned(path) => {
            println!("{}", path.display());
            session.progress.note(format!(
                "This needs signatures before appliances see it:\n  larder keys sign {0} --key FILE\n  larder publish --signed {0} --to {1}",
                path.display(),
                args.to.display()
            ));
        }
    }
    session.end();
    Ok(ExitCode::SUCCESS)
}

/// Opens the key that is named, if one is.
pub(super) fn signer(args: &KeyArgs) -> anyhow::Result<Option<Signer>> {
    let Some(key) = &args.key else { return Ok(None) };
    let passphrase = passphrase::of(key, args.passphrase_file.as_deref())?;
    Signer::open(key, &passphrase).map(Some)
}
