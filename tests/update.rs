//! A system that is replaced by a newer one, and everything that may go wrong with that.
//!
//! Both releases are real: 1.0 without Debian's security updates, 2.0 with them and with another kernel.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, Machine, Output};
use larder_tests::{BOOT, Fault, RECOVERY_KEY, Releases, Story, TestVm, WebServer, releases};

const GIB: u64 = 1 << 30;
/// Bound for a start, or an installation, on an emulated CPU that may share its cores.
const LONG: Duration = Duration::from_secs(600);
/// No installation may take more memory.
const WITH_LITTLE_MEMORY: &str = "systemd-run --quiet --pipe --wait -p MemoryMax=192M -p MemorySwapMax=0";

fn settings(server: &WebServer, channel: &str) -> String {
    format!(
        "schema = 1\n[system]\nhostname = \"nas\"\n[pool]\nlayout = \"mirror\"\n[keys]\nrecovery-key = \"{RECOVERY_KEY}\"\n\
         [updates]\nfrom = \"{}\"\nchannel = \"{channel}\"\nautomatic = \"off\"\n",
        server.address()
    )
}

fn machine(story: &Story, releases: &Releases, settings: &str) -> Result<Machine> {
    story.machine_with(&releases.image, |builder| {
        builder.medium(BootMedium::Nvme).disks(2, 2 * GIB).credential("larder.nas-toml", settings)
    })
}

/// Waits until all is there: this version, counted as good, with its pool open and the network up.
fn ready(vm: &mut TestVm, version: &str) -> Result<()> {
    vm.check_within("systemctl start larder-pool larder-unlock larder-mark-good", LONG)?;
    vm.expect("sed -n s/^IMAGE_VERSION=//p /usr/lib/os-release", version)?;
    let log = vm.check(
        "journalctl -b -o cat --no-pager -u larder-pool -u larder-unlock -u larder-health -u larder-mark-good",
    )?;
    vm.expect(
        "zpool list -H -o name,health; zfs get -H -o value keystatus,mounted tank/data",
        "tank\tONLINE\navailable\nyes",
    )
    .with_context(|| format!("the pool is not open by itself:\n{log}"))?;
    let times = "ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic";
    println!("{}", vm.check(&format!("systemctl show -p Id,{times} larder-pool larder-unlock"))?);
    vm.expect(&format!("ls /boot/EFI/Linux/larder_{version}+*"), &format!("/boot/EFI/Linux/larder_{version}+3.efi"))?;
    vm.check("for i in $(seq 60); do ip -4 route | grep -q ^default && exit 0; sleep 1; done; exit 1")
        .context("no network")?;
    Ok(())
}

/// A command that must fail as something that its user can mend, and say this.
fn refuses(vm: &mut TestVm, command: &str, said: &str) -> Result<()> {
    let Output { status, text } = vm.run_within(command, LONG)?;
    ensure!(status == 1 && text.contains(said), "`{command}` ended with {status}: {text}");
    Ok(())
}

fn finding(vm: &mut TestVm, id: &str, text: &str) -> Result<()> {
    let said = vm.run("firstboot status")?.text;
    ensure!(said.contains(id) && said.contains(text), "the status does not tell of {id}: {said}");
    Ok(())
}

#[test]
fn an_update_gets_through_all_that_goes_wrong_and_its_pool_opens_by_itself() -> Result<()> {
    let releases = releases()?;
    let server = WebServer::start(&releases.site)?;
    let story = Story::begin("update")?;
    let machine = machine(&story, &releases, &settings(&server, "stable"))?;
    let mut vm = story.boot(machine)?;
    ready(&mut vm, "1.0")?;

    server.fail(Fault::Down);
    refuses(&mut vm, "firstboot update check", "the connection broke off")?;
    server.fail(Fault::None);
    let to_fetch = to_fetch(&mut vm, "2.0")?;
    a_full_esp_is_noticed_before_the_download(&mut vm, &server)?;
    server.fail(Fault::Corrupts);
    let corrupted = vm.run_within("firstboot update install", LONG)?;
    ensure!(!corrupted.success() && corrupted.text.contains("making the"), "a corrupted chunk: {}", corrupted.text);

    // The power goes when half of it is there; the rest comes over a bad link.
    server.fail(Fault::StopsAfter(to_fetch / 2));
    vm.check("systemd-run --quiet --unit=test-update firstboot update install")?;
    server.wait_sent(to_fetch / 2, LONG)?;
    std::thread::sleep(Duration::from_secs(5));
    let sent_before = server.sent();
    let (story, machine) = vm.power_cut();
    server.fail(Fault::SlowAndLossy);
    let mut vm = story.boot(machine)?;
    ready(&mut vm, "1.0")?;
    println!("{}", vm.check_within(&format!("{WITH_LITTLE_MEMORY} firstboot update install"), LONG)?);
    let sent = sent_before + server.sent();
    println!("{to_fetch} bytes to fetch, {sent_before} before the cut, {sent} in all");
    // What was on its way when a connection broke was sent in vain.
    ensure!(sent < to_fetch + (3 << 20), "{sent} bytes were fetched in place of {to_fetch}");
    server.fail(Fault::None);
    refuses(&mut vm, "firstboot update install", "restart first")?;

    let old_kernel = vm.check("uname -r")?;
    vm.reboot(LONG)?;
    ready(&mut vm, "2.0")?;
    ensure!(vm.check("uname -r")? != old_kernel, "the kernel is the same");
    vm.expect("firstboot update check", "version 2.0 is the newest")?;
    vm.expect("ls /boot/EFI/Linux", "larder_1.0+3.efi\nlarder_2.0+3.efi")?;
    going_back_keeps_what_is_known_of_newer_settings(&mut vm)
}

/// Bytes that the newest version takes, which must be less than the whole image.
fn to_fetch(vm: &mut TestVm, version: &str) -> Result<u64> {
    let checked: serde_json::Value = serde_json::from_str(&vm.check_within("firstboot update check --json", LONG)?)?;
    let newer = &checked["newer"];
    ensure!(newer["version"] == version, "there is {checked}");
    let (fetch, image) = (newer["fetch"].as_u64().unwrap_or_default(), newer["image"].as_u64().unwrap_or_default());
    ensure!(0 < fetch && fetch < image, "{fetch} bytes of {image}");
    Ok(fetch)
}

fn a_full_esp_is_noticed_before_the_download(vm: &mut TestVm, server: &WebServer) -> Result<()> {
    vm.run_within("dd if=/dev/zero of=/boot/mine bs=1M; sync", LONG)?;
    server.fail(Fault::None);
    refuses(vm, "firstboot update install", "the ESP has room for")?;
    let objects = server.requests().into_iter().filter(|path| path.starts_with("objects/")).count();
    ensure!(objects == 0, "{objects} objects were asked for");
    vm.check("rm /boot/mine && sync").map(drop).map_err(Into::into)
}

/// 2.0 has settings that 1.0 does not know.
fn going_back_keeps_what_is_known_of_newer_settings(vm: &mut TestVm) -> Result<()> {
    vm.check("printf '[mood]\\nof-the-day = \"good\"\\n' >> /state/larder/nas.toml && sync")?;
    vm.expect("firstboot update rollback", "1.0 starts at the next restart.")?;
    vm.reboot(LONG)?;
    ready(vm, "1.0")?;
    vm.expect("hostname", "nas")?;
    vm.expect("grep -c of-the-day /state/larder/nas.toml", "1")?;
    finding(vm, "settings-of-a-newer-version", "mood")?;
    refuses(vm, "firstboot update install", "its owner went back")
}

#[test]
fn a_system_that_does_not_work_gives_way_to_the_one_that_did() -> Result<()> {
    let releases = releases()?;
    let server = WebServer::start(&releases.site)?;
    let story = Story::begin("update-fallback")?;
    let machine = machine(&story, &releases, &settings(&server, "broken"))?;
    let mut vm = story.boot(machine)?;
    ready(&mut vm, "1.0")?;
    let mut vm = the_power_goes_while_starts_are_counted(vm)?;

    // Everything is fetched, as nothing leads from 1.0 to 3.0.
    println!("{}", vm.check_within(&format!("{WITH_LITTLE_MEMORY} firstboot update install"), LONG)?);
    vm.reboot(LONG)?;
    vm.wait_console("this start is not good enough; restart in", LONG).context("3.0 should not be kept")?;
    vm.wait_restart(LONG)?;
    ready(&mut vm, "1.0")?;
    finding(&mut vm, "system-fell-back", "system 3.0 failed, so 1.0 runs in its place: the ZFS module is not loaded")?;
    refuses(&mut vm, "firstboot update install", "was tried before and failed: the ZFS module is not loaded")?;

    let stable = settings(&server, "stable").replace(&format!("recovery-key = \"{RECOVERY_KEY}\"\n"), "");
    vm.check(&format!("cat > /run/nas.toml <<'END'\n{stable}END\nfirstboot apply /run/nas.toml --yes"))?;
    println!("{}", vm.check_within("firstboot update install", LONG)?);
    let (story, machine) = vm.shut_down()?;
    // A kernel that panics: its root is damaged where it begins.
    let slot = |label: &str| {
        machine.boot_medium().partitions().map(|partitions| {
            partitions
                .into_iter()
                .filter(|partition| partition.label == label)
                .max_by_key(|partition| partition.bytes.end - partition.bytes.start)
        })
    };
    let new = slot("larder_2.0")?.context("2.0 has no slot")?.bytes.start;
    let old = slot("larder_1.0")?.context("1.0 has no slot")?.bytes.start;
    machine.boot_medium().flip_bit(new + 1024)?;
    let mut vm = story.start(machine)?;
    vm.wait_console("Kernel panic - not syncing", BOOT).context("2.0 should not start")?;
    vm.wait_restart(2 * LONG)?;
    ready(&mut vm, "1.0")?;
    finding(&mut vm, "system-fell-back", "system 2.0 failed, so 1.0 runs in its place: it was started three times")?;

    let (story, machine) = vm.shut_down()?;
    machine.boot_medium().flip_bit(old + 1024)?;
    let mut vm = story.start(machine)?;
    vm.wait_console("larder: No system on this disk starts as it should", LONG)?;
    vm.wait_console("firstboot adopt", LONG).map(drop).map_err(Into::into)
}

/// Again and again a start is counted as good; the power goes in the middle of it.
fn the_power_goes_while_starts_are_counted(mut vm: TestVm) -> Result<TestVm> {
    vm.check(
        "cat > /run/storm.sh <<'END'\n\
         cd /boot/EFI/Linux\n\
         while :; do mv larder_1.0+3.efi larder_1.0+2-1.efi; firstboot update mark-good; done\n\
         END\n\
         systemd-run --quiet --unit=storm sh /run/storm.sh",
    )?;
    std::thread::sleep(Duration::from_secs(4) + Duration::from_millis(uuid::Uuid::new_v4().as_u128() as u64 % 2000));
    let (story, machine) = vm.power_cut();
    let mut vm = story.boot(machine)?;
    ready(&mut vm, "1.0")?;
    Ok(vm)
}
