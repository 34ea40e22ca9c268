use std::process::ExitCode; pub(super) fn run(_: &super::args::InspectArgs) -> anyhow::Result<ExitCode> { anyhow::bail!("x") }
