//! The way in by presence, against Debian's own tangd: at home the data opens by itself, and nowhere else.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use firstboot::tang::{Bound, Client, Pin, Server};
use larder_qemu::BootMedium;
use larder_tests::{RECOVERY_KEY, Story, TestVm, larder, workspace};

const GIB: u64 = 1 << 30;
/// Bound for what an emulated CPU does in seconds, and a busy one in minutes.
const LONG: Duration = Duration::from_secs(300);

/// tangd of larder's tools tree, on a port of this machine that guests reach at 10.0.2.2.
struct Tangd {
    folder: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
}

impl Tangd {
    /// One with new keys.
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut tangd = Self { folder, port, running: None };
        tangd.run("/usr/libexec/tangd-keygen", &[])?;
        tangd.switch_on()?;
        Ok(tangd)
    }

    fn keys(&self) -> &Path {
        self.folder.path()
    }

    fn tool(&self, argv: &[&str]) -> Result<Command> {
        let mut command = Command::new(larder()?);
        command.current_dir(workspace()).args(["tools", "run", "tang", "--network", "--bind"]).arg(self.keys());
        command.arg("--").args(argv);
        Ok(command)
    }

    /// A script of tangd's, on its keys.
    fn run(&self, script: &str, options: &[&str]) -> Result<()> {
        let keys = self.keys().to_str().context("a path in UTF-8")?;
        let status = self.tool(&[&["/bin/sh", script], options, &[keys]].concat())?.status()?;
        ensure!(status.success(), "{script} failed ({status})");
        Ok(())
    }

    fn rotate(&self) -> Result<()> {
        self.run("/usr/libexec/tangd-rotate-keys", &["-d"])
    }

    fn switch_on(&mut self) -> Result<()> {
        let (port, keys) = (self.port.to_string(), self.keys().to_str().context("a path in UTF-8")?.to_owned());
        self.running = Some(self.tool(&["/usr/libexec/tangd", "-l", "-p", &port, &keys])?.spawn()?);
        let end = Instant::now() + LONG;
        let server = self.server()?;
        while Client::new().advertisement(&server).is_err() {
            ensure!(Instant::now() < end, "tangd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn switch_off(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.kill()?;
            running.wait()?;
        }
        let end = Instant::now() + LONG;
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            ensure!(Instant::now() < end, "tangd still listens");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Files of its keys, of which the hidden ones were rotated.
    fn files(&self) -> Result<Vec<PathBuf>> {
        fs_err::read_dir(self.keys())?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Of the key that it signs with: files are called after them.
    fn thumbprint(&self) -> Result<String> {
        for file in self.files()? {
            let name = file.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
            if !name.starts_with('.') && fs_err::read_to_string(&file)?.contains("verify") {
                return Ok(name);
            }
        }
        bail!("tangd has no key to sign with")
    }

    fn server(&self) -> Result<Server> {
        let pin = Pin::Thumbprint(serde_json::from_value(self.thumbprint()?.into())?);
        Ok(Server { url: serde_json::from_value(format!("http://127.0.0.1:{}", self.port).into())?, pin })
    }
}

impl Drop for Tangd {
    fn drop(&mut self) {
        // The test has failed for another reason, if it has.
        let _ = self.switch_off();
    }
}

#[test]
fn debians_tangd_helps_knows_its_rotated_keys_and_forgets_those_that_are_deleted() -> Result<()> {
    let (tangd, client) = (Tangd::start()?, Client::new());
    let server = tangd.server()?;
    let before = client.advertisement(&server)?;
    let (bound, secret) = Bound::new(before.exchange[0])?;
    ensure!(bound.recover(&client, &server.url)? == secret, "tangd gives another secret");

    tangd.rotate()?;
    ensure!(bound.recover(&client, &server.url)? == secret, "tangd does not know its rotated key");
    let known = Server { pin: Pin::Signer(before.signer), ..server.clone() };
    let after = client.advertisement(&known)?;
    ensure!(after.signer.thumbprint() == tangd.thumbprint()?, "it signs with {:?}", after.signer);
    ensure!(after.exchange != before.exchange, "the keys are the same");

    for file in tangd.files()? {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            fs_err::remove_file(file)?;
        }
    }
    ensure!(bound.recover(&client, &server.url).is_err(), "tangd helps without its key");
    ensure!(client.advertisement(&known).is_err(), "tangd signs without its key");
    Ok(())
}

#[test]
fn at_home_the_data_opens_by_itself_and_elsewhere_or_without_its_tpm_it_stays_shut() -> Result<()> {
    let mut tangd = Tangd::start()?;
    let settings = format!(
        "schema = 1\n[system]\nhostname = \"nas\"\n[pool]\nlayout = \"mirror\"\n[keys]\nrecovery-key = \"{RECOVERY_KEY}\"\n\
         tang = [{{ url = \"http://10.0.2.2:{}\", thumbprint = \"{}\" }}]\n",
        tangd.port,
        tangd.thumbprint()?
    );
    let story = Story::begin("tang")?;
    let machine = story.machine(|builder| {
        builder.medium(BootMedium::Nvme).disks(2, 2 * GIB).credential("larder.nas-toml", &settings)
    })?;
    let mut vm = story.boot(machine)?;
    set_up(&mut vm)?;

    let (story, machine) = vm.shut_down()?;
    let mut vm = story.boot(machine)?;
    opens_by_itself(&mut vm)?;

    let (story, machine) = vm.shut_down()?;
    tangd.switch_off()?;
    let mut vm = story.boot(machine)?;
    stays_shut(&mut vm, "tang-unreachable", "http://10.0.2.2:")?;
    // The server comes back, and nobody has to do anything.
    tangd.switch_on()?;
    opens_by_itself(&mut vm)?;

    let (story, machine) = vm.shut_down()?;
    // Another board, at home.
    machine.replace_tpm()?;
    let mut vm = story.boot(machine)?;
    stays_shut(&mut vm, "tpm-", "the key tang does not open the data")?;
    is_repaired(&mut vm, &tangd)
}

/// The pool is there, and nothing but the recovery key and the servers with the TPM opens it.
fn set_up(vm: &mut TestVm) -> Result<()> {
    vm.check_within("systemctl start larder-pool larder-unlock", LONG)?;
    let slots = vm.check("zfs get -H -s local -o property all tank | grep larder:key | sort")?;
    let said = vm.check("journalctl -b -u larder-pool -o cat --no-pager")?;
    let expected = ["larder:key-recovery", "larder:key-tang"];
    ensure!(slots.lines().collect::<Vec<_>>() == expected, "the slots: {slots}\n{said}");
    ensure!(!said.contains("the TPM does not keep"), "the setup said {said}");
    vm.check("echo twenty years > /mnt/tank/photos")?;
    vm.expect("firstboot keys test tang", "tang opens tank/data.")
}

fn opens_by_itself(vm: &mut TestVm) -> Result<()> {
    let wait = "systemctl start larder-pool larder-unlock; until [ -e /mnt/tank/photos ]; do sleep 1; done";
    vm.check_within(wait, LONG)?;
    vm.expect("cat /mnt/tank/photos", "twenty years")?;
    let until_told = "while firstboot status | grep -e data-locked -e tang-; do sleep 1; done";
    vm.check_within(until_told, LONG)?;
    Ok(())
}

/// The data stays locked, everybody who has to know is told why, and the console asks.
fn stays_shut(vm: &mut TestVm, finding: &str, why: &str) -> Result<()> {
    vm.check_within("systemctl start larder-pool larder-unlock", LONG)?;
    let unit = "larder-unlock-serial@ttyS0.service";
    vm.check_within(&format!("until systemctl is-active {unit}; do sleep 1; done"), LONG)?;
    let wait = format!("for i in $(seq 120); do firstboot status | grep -q {finding} && break; sleep 1; done");
    vm.check_within(&wait, LONG)?;
    let status = vm.run("firstboot status")?.text;
    ensure!(
        status.contains(finding) && status.contains(why) && status.contains("data-locked"),
        "the status says {status:?}"
    );
    vm.expect("zfs get -H -o value keystatus tank/data", "unavailable")
}

/// By the recovery key, and then for the new TPM; also with the server's new keys.
fn is_repaired(vm: &mut TestVm, tangd: &Tangd) -> Result<()> {
    let type_in = |command: &str| format!("printf '%s\\n' '{RECOVERY_KEY}' | firstboot {command}");
    vm.check_within(&type_in("unlock"), LONG)?;
    vm.expect("cat /mnt/tank/photos", "twenty years")?;
    tangd.rotate()?;
    vm.check_within(&type_in("keys repair"), LONG)?;
    vm.expect("firstboot keys test tang", "tang opens tank/data.")?;
    vm.expect("firstboot keys repair", "Nothing is broken.")?;
    vm.check("! firstboot status | grep -e tang- -e tpm-")?;
    Ok(())
}
