//! `larder recovery-key`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use firstboot::key::RecoveryKey;

use super::Common;

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let key = RecoveryKey::generate()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}\n\n{}", key.text().expose(), key.qr(out.is_terminal()).expose())?;
    common.progress().note(
        "Print it or write it down, and keep it where the server is not. It is kept nowhere else.\n\
         In nas.toml it goes into the table [keys]: recovery-key = \"...\"",
    );
    Ok(ExitCode::SUCCESS)
}
