//! The owner's settings: from the seed into force, changed while the system runs, and wrong ones, which do no harm.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, Machine};
use larder_tests::{Story, TestVm, larder};

const GIB: u64 = 1 << 30;
/// In the network that QEMU makes (10.0.2.0/24), and not what its DHCP server gives away first.
const ADDRESS: &str = "10.0.2.77";
/// That of QEMU's first network card.
const PORT: &str = "52:54:00:12:34:56";

#[test]
fn settings_on_the_seed_are_in_force_and_outlast_it() -> Result<()> {
    let story = Story::begin("settings")?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme).disks(1, GIB))?;
    seed(&machine, &settings("nas", ADDRESS))?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    in_force(&mut vm, "nas", ADDRESS)?;
    let identity = identity(&mut vm)?;
    a_pool_knows_the_host_id(&mut vm, &identity)?;
    changed_settings_change_only_what_they_say(&mut vm)?;
    wrong_settings_leave_everything_as_it_was(&mut vm)?;
    only_a_key_of_the_settings_opens_ssh(&mut vm)?;

    // What was applied counts from now on, whatever is on the seed.
    let (story, machine) = vm.shut_down()?;
    seed(&machine, "schema = 1\n")?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    in_force(&mut vm, "attic", "10.0.2.78")?;
    ensure!(self::identity(&mut vm)? == identity, "the machine is another one after a restart");
    vm.check("journalctl -b -o cat | grep -q 'Startup finished'").context("the journal is not found")?;
    vm.expect("zpool import -d /dev/disk/by-id tank && zpool list -H -o health tank", "ONLINE")
}

#[test]
fn wrong_settings_on_the_seed_leave_the_defaults_running() -> Result<()> {
    let story = Story::begin("settings-wrong")?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme))?;
    seed_unchecked(&machine, "schema = 1\n[system]\nhostnam = \"nas\"\n")?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    vm.expect("hostname", "larder")?;
    vm.expect("systemctl is-active boot-complete.target systemd-networkd", "active\nactive")?;
    let status = vm.run("firstboot status")?;
    ensure!(status.status == 1 && status.text.contains("settings-wrong"), "{}", status.text);
    ensure!(status.text.contains("did you mean `hostname`?"), "{}", status.text);
    vm.wait_console("settings-wrong", larder_tests::BOOT).context("the console does not say what is wrong")?;
    vm.check("firstboot health").map(drop).map_err(Into::into)
}

fn settings(name: &str, address: &str) -> String {
    format!(
        "schema = 1\n[system]\nhostname = \"{name}\"\ntimezone = \"Europe/Berlin\"\n[network]\n\
         interface = \"{PORT}\"\naddresses = [\"{address}/24\"]\ngateways = [\"10.0.2.2\"]\ndns = [\"10.0.2.3\"]\n\
         [keys]\npassphrase = \"not on the state partition\"\n"
    )
}

/// As an owner does it.
fn seed(machine: &Machine, text: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nas.toml");
    fs_err::write(&file, text)?;
    let mut seed = Command::new(larder()?);
    let output = seed.arg("seed").arg(machine.boot_medium().path()).arg("--config").arg(file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// As an owner does it who edits the file on the stick.
fn seed_unchecked(machine: &Machine, text: &str) -> Result<()> {
    let medium = machine.boot_medium();
    let image = fs_err::File::options().read(true).write(true).open(medium.path())?;
    firstboot::seed::put(image.file(), medium.partition(firstboot::layout::SEED_LABEL)?.bytes, text)
}

/// Name, clock and address are those of [`settings`], and nothing secret lies in the open.
fn in_force(vm: &mut TestVm, name: &str, address: &str) -> Result<()> {
    vm.expect("hostname; cat /etc/hostname", &format!("{name}\n{name}"))?;
    vm.expect("readlink -f /etc/localtime", "/usr/share/zoneinfo/Europe/Berlin")?;
    let wait = format!(
        "for i in $(seq 60); do ip -4 -o addr | grep -q ' {address}/24 ' && exit; sleep 1; done; ip addr; exit 1"
    );
    vm.check(&wait)?;
    vm.expect("ip -4 -o addr show scope global | wc -l", "1")?;
    vm.expect("ip -4 route show default | cut -d' ' -f3", "10.0.2.2")?;
    vm.expect("resolvectl dns | grep -o '10.0.2.3'", "10.0.2.3")?;
    vm.expect("grep -c passphrase /state/larder/nas.toml || true", "0")
}

/// Host id and machine id, as everybody sees them.
fn identity(vm: &mut TestVm) -> Result<(String, String)> {
    let host_id = vm.check("hostid")?.trim().to_owned();
    let machine_id = vm.check("cat /etc/machine-id")?.trim().to_owned();
    ensure!(host_id.len() == 8 && host_id != "00000000", "the host id is {host_id:?}");
    vm.check("cmp /etc/hostid /state/larder/hostid && cmp /etc/machine-id /state/larder/machine-id")?;
    Ok((host_id, machine_id))
}

fn a_pool_knows_the_host_id(vm: &mut TestVm, (host_id, _): &(String, String)) -> Result<()> {
    let disk = vm.machine().disks()[0].by_id();
    vm.check(&format!("modprobe zfs && zpool create -o cachefile=none -m none tank {disk}"))?;
    let label = vm.check(&format!("zdb -l {disk}-part1 | grep -m1 hostid:"))?;
    let number: u32 = label.trim().trim_start_matches("hostid:").trim().parse()?;
    ensure!(format!("{number:08x}") == *host_id, "the pool's label has the host id {number:08x}");
    vm.check("zpool export tank").map(drop).map_err(Into::into)
}

/// Another name and address; the clock, and units that read neither, are left alone.
fn changed_settings_change_only_what_they_say(vm: &mut TestVm) -> Result<()> {
    put(vm, &settings("attic", "10.0.2.78"))?;
    let refused = vm.run("firstboot apply /run/nas.toml")?;
    ensure!(refused.status == 1 && refused.text.contains("--yes"), "{}", refused.text);
    in_force(vm, "nas", ADDRESS)?;
    let since = vm.check("systemctl show -P ActiveEnterTimestamp systemd-resolved")?;
    let said = vm.check("firstboot apply /run/nas.toml --yes")?;
    for line in
        ["-nas", "+attic", "-Address=10.0.2.77/24", "+Address=10.0.2.78/24", "then told: systemd-networkd.service"]
    {
        ensure!(said.contains(line), "the difference lacks {line}:\n{said}");
    }
    ensure!(!said.contains("localtime"), "{said}");
    in_force(vm, "attic", "10.0.2.78")?;
    vm.expect("systemctl show -P ActiveEnterTimestamp systemd-resolved", since.trim())?;
    let again = vm.check("firstboot apply /run/nas.toml")?;
    ensure!(again.contains("No file changes"), "{again}");
    Ok(())
}

fn wrong_settings_leave_everything_as_it_was(vm: &mut TestVm) -> Result<()> {
    put(vm, "schema = 1\n[system]\nhostname = \"my nas\"\ntimezone = \"UTX\"\n")?;
    let said = vm.run("firstboot apply /run/nas.toml --yes")?;
    ensure!(
        said.status == 1 && said.text.contains("nas.toml:3:12") && said.text.contains("nas.toml:4:12"),
        "{}",
        said.text
    );
    let checked = vm.run("firstboot check /run/nas.toml")?;
    ensure!(checked.status == 1 && checked.text.contains("is no host name"), "{}", checked.text);
    in_force(vm, "attic", "10.0.2.78")
}

/// From inside: QEMU's network has no way in without a port that is known before. The data is some memory here.
fn only_a_key_of_the_settings_opens_ssh(vm: &mut TestVm) -> Result<()> {
    const SSH: &str = "ssh -i /run/key -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR";
    vm.check("mkdir -p /var/lib/larder && mount -t tmpfs -o mode=0700 tmpfs /var/lib/larder")?;
    vm.check(
        "ssh-keygen -q -t ed25519 -N '' -f /run/key && systemctl start larder-ssh.socket larder-unlock-ssh.socket",
    )?;
    let stranger = vm.run(&format!("{SSH} root@127.0.0.1 id"))?;
    ensure!(stranger.text.contains("Permission denied (publickey)"), "{}", stranger.text);
    let key = vm.check("cat /run/key.pub")?;
    put(vm, &format!("{}[ssh]\nauthorized-keys = [\"{}\"]\n", settings("attic", "10.0.2.78"), key.trim()))?;
    vm.check("firstboot apply /run/nas.toml --yes")?;
    vm.expect(&format!("{SSH} root@127.0.0.1 'id -un; hostname'"), "root\nattic")?;
    // While the data is shut, the same key gets another command than it asks for.
    let unlock = vm.run(&format!("{SSH} -p 2222 root@127.0.0.1 id"))?;
    ensure!(!unlock.text.contains("uid=0"), "{}", unlock.text);
    let host_keys = vm.check("cat /run/larder/ssh/*.pub; ssh-keygen -y -f /var/lib/larder/ssh/ssh_host_ed25519_key")?;
    let keys: std::collections::BTreeSet<_> = host_keys.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    ensure!(keys.len() == 2, "the two ports have one host key: {host_keys}");
    vm.expect("grep -rl 'PRIVATE KEY' /state || true", "")
}

fn put(vm: &mut TestVm, text: &str) -> Result<()> {
    vm.check(&format!("cat > /run/nas.toml <<'END'\n{text}END")).map(drop).map_err(Into::into)
}
