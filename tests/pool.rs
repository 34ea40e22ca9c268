//! From empty disks to an encrypted pool that comes back by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, Disk, MachineBuilder};
use larder_tests::{RECOVERY_KEY, Story, TestVm};

const GIB: u64 = 1 << 30;
/// Bound for a setup on an emulated CPU, which may share its cores.
const LONG: Duration = Duration::from_secs(300);
const PASSPHRASE: &str = "correct horse battery";

fn settings() -> String {
    format!(
        "schema = 1\n[system]\nhostname = \"nas\"\n[pool]\nlayout = \"raidz1\"\n[keys]\nrecovery-key = \"{RECOVERY_KEY}\"\n\
         passphrase = \"{PASSPHRASE}\"\n"
    )
}

fn three_disks(builder: MachineBuilder) -> MachineBuilder {
    builder.medium(BootMedium::Nvme).disks(3, 2 * GIB).credential("larder.nas-toml", &settings())
}

#[test]
fn empty_disks_and_a_settings_file_become_an_encrypted_pool_that_comes_back() -> Result<()> {
    let story = Story::begin("pool")?;
    let machine = story.machine(three_disks)?;
    let mut vm = story.boot(machine)?;
    ready(&mut vm)?;
    encrypted(&mut vm)?;
    looked_after(&mut vm)?;
    holds_what_was_promised(&mut vm)?;
    let guid = vm.check("zpool list -H -o guid tank")?;

    let (story, machine) = vm.shut_down()?;
    let mut vm = story.boot(machine)?;
    ready(&mut vm)?;
    ensure!(vm.check("zpool list -H -o guid tank")? == guid, "another pool came back");
    // The TPM has opened it, as the same system was started.
    vm.check_within("systemctl start larder-unlock", LONG)?;
    vm.expect("zfs get -H -o value keystatus,mounted tank/data", "available\nyes")?;
    let status = vm.run("firstboot status")?;
    ensure!(status.status == 0 && status.text.contains("Pool `tank`: online"), "the status says {:?}", status.text);
    Ok(())
}

/// Waits until the pool was set up, or imported.
fn ready(vm: &mut TestVm) -> Result<()> {
    let log = "systemctl start larder-pool larder-unlock; journalctl -b -u larder-pool -o cat --no-pager; cat /run/larder/findings/pool.json";
    let said = vm.check_within(log, LONG)?;
    vm.expect("zpool list -H -o name,health", "tank\tONLINE").context(said)
}

fn encrypted(vm: &mut TestVm) -> Result<()> {
    vm.expect("zfs get -H -o value encryption,keyformat,encryptionroot tank/data", "aes-256-gcm\nraw\ntank/data")?;
    vm.expect("zfs get -H -o value encryption,mounted,larder:setup tank", "off\nno\ncomplete")?;
    vm.expect("zfs get -H -o value mounted,mountpoint tank/data/larder", "yes\n/var/lib/larder")?;
    let slots = vm.check("zfs get -H -s local -o property all tank | grep larder:key | sort")?;
    // The machine has a TPM.
    let expected = ["larder:key-passphrase", "larder:key-recovery", "larder:key-tpm2"];
    ensure!(slots.lines().collect::<Vec<_>>() == expected, "the slots: {slots}");
    Ok(())
}

/// Weekly scrub and trim, the limits of another Linux, and nobody else who does the same.
fn looked_after(vm: &mut TestVm) -> Result<()> {
    vm.expect("systemctl is-active zfs-scrub-weekly@tank.timer zfs-trim-weekly@tank.timer", "active\nactive")?;
    vm.expect("zpool get -H -o value compatibility,ashift,autotrim tank", "openzfs-2.3-linux\n12\non")?;
    vm.expect("zfs get -H -o value org.debian:periodic-scrub,org.debian:periodic-trim tank", "disable\ndisable")?;
    vm.check("! ls /etc/cron.d/zfsutils-linux")?;
    Ok(())
}

/// The plan's figure is what ZFS says afterwards.
fn holds_what_was_promised(vm: &mut TestVm) -> Result<()> {
    let text = vm.check("zfs list -H -p -o used,avail tank")?;
    let sizes: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let said = sizes.iter().sum::<u64>();
    let promised = 2 * (2 * GIB - GIB / 8) * 31 / 32;
    ensure!(said.abs_diff(promised) < promised / 20, "{said} bytes instead of about {promised}");
    Ok(())
}

/// What a setup says when a step is done, in order.
const STEPS: [&str; 4] =
    ["pool `tank`, plan", "the disks are partitioned", "the pool is there", "the recovery key opens it"];

#[test]
fn wherever_the_power_goes_during_a_setup_the_next_start_carries_on_to_the_same_end() -> Result<()> {
    let mut story = Story::begin("pool-cuts")?;
    let mut machine = story.machine(three_disks)?;
    for step in STEPS {
        let mut vm = story.start(machine)?;
        vm.wait_console(step, LONG)?;
        (story, machine) = vm.power_cut();
    }
    let mut vm = story.boot(machine)?;
    ready(&mut vm)?;
    encrypted(&mut vm)?;
    vm.expect("ls /state/larder/setup.json 2>&1 | grep -c 'No such file'", "1")
}

#[test]
fn a_setup_that_is_cut_at_random_moments_comes_to_its_end() -> Result<()> {
    let mut story = Story::begin("pool-random")?;
    let mut machine = story.machine(three_disks)?;
    for _ in 0..2 {
        let mut vm = story.start(machine)?;
        vm.wait_console("larder: setting up: ", LONG)?;
        // A setup takes about ten seconds on an emulated CPU.
        let moment = Duration::from_millis(uuid::Uuid::new_v4().as_u128() as u64 % 10_000);
        println!("cut {moment:?} after the setup went on");
        std::thread::sleep(moment);
        (story, machine) = vm.power_cut();
    }
    let mut vm = story.boot(machine)?;
    ready(&mut vm)?;
    encrypted(&mut vm)
}

#[test]
fn no_secret_is_left_where_a_thief_reads_it() -> Result<()> {
    let story = Story::begin("pool-secrets")?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme).disks(2, 2 * GIB))?;
    put_on_seed(machine.boot_medium())?;
    let mut vm = story.boot(machine)?;
    ready(&mut vm)?;
    // By the appliance's own programs, and by whatever they have started.
    let secrets = [PASSPHRASE.to_owned(), RECOVERY_KEY.replace('-', "")];
    for place in [
        "journalctl -b --no-pager -o export",
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ",
        "cat /run/larder/* /run/larder/*/*",
    ] {
        // Looked through afterwards: whoever searches for a secret has it among his own arguments.
        vm.check(&format!("({place}) 2>/dev/null | tr -d '\\000-' > /run/seen; test -s /run/seen"))?;
        for secret in &secrets {
            vm.check(&format!("! grep -a -q -F -e '{secret}' /run/seen"))
                .with_context(|| format!("`{place}` shows it"))?;
        }
    }
    let (_, machine) = vm.shut_down()?;
    for disk in [machine.boot_medium()].into_iter().chain(machine.disks()) {
        for secret in [PASSPHRASE, RECOVERY_KEY, &RECOVERY_KEY.replace('-', "")] {
            ensure!(!contains(disk, secret.as_bytes())?, "{} holds a secret", disk.path().display());
        }
    }
    Ok(())
}

/// As its owner would.
fn put_on_seed(medium: &Disk) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nas.toml");
    fs_err::write(&file, settings().replace("raidz1", "mirror"))?;
    let mut seed = std::process::Command::new(larder_tests::larder()?);
    let output = seed.arg("seed").arg(medium.path()).arg("--config").arg(&file).output()?;
    ensure!(output.status.success(), "larder seed: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(contains(medium, PASSPHRASE.as_bytes())?, "the seed does not hold what was put there");
    Ok(())
}

/// Whether these bytes are anywhere on a disk.
fn contains(disk: &Disk, needle: &[u8]) -> Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let file = fs_err::File::open(disk.path())?;
    let mut piece = vec![0; 4 << 20];
    for range in disk.data()? {
        let mut at = range.start;
        while at < range.end {
            let read = file.file().read_at(&mut piece, at)?;
            if read == 0 {
                break;
            }
            if memchr::memmem::find(&piece[..read], needle).is_some() {
                return Ok(true);
            }
            // Pieces overlap, so that nothing is cut in two.
            at += (read.saturating_sub(needle.len() - 1)).max(1) as u64;
        }
    }
    Ok(false)
}

#[test]
fn a_new_boot_medium_and_a_key_bring_the_server_back() -> Result<()> {
    let story = Story::begin("pool-adopt")?;
    let machine = story.machine(three_disks)?;
    let mut vm = story.boot(machine)?;
    ready(&mut vm)?;
    vm.check("echo twenty years > /mnt/tank/photos")?;
    let itself = vm.check("cat /etc/machine-id; hostid; hostname")?;

    // The stick is thrown away.
    let (story, machine) = vm.shut_down()?;
    replace(machine.boot_medium())?;
    let mut vm = story.boot(machine)?;
    vm.check_within("systemctl start larder-pool", LONG)?;
    // Nobody takes the disks, although the settings still ask for a pool.
    let status = vm.run("firstboot status")?;
    ensure!(status.status == 1 && status.text.contains("no disk is empty"), "the status says {:?}", status.text);
    vm.check("test -z \"$(zpool list -H)\"")?;

    let wrong = vm.run("printf 'wrong passphrase\\n' | firstboot adopt tank")?;
    ensure!(wrong.status == 1 && wrong.text.contains("this opens nothing"), "a wrong key: {:?}", wrong.text);
    vm.check("test -z \"$(zpool list -H)\"")?;
    vm.check_within(&format!("printf '%s\\n' {} | firstboot adopt tank", RECOVERY_KEY.to_lowercase()), LONG)?;
    vm.expect("cat /mnt/tank/photos", "twenty years")?;

    vm.reboot(LONG)?;
    vm.check_within("systemctl start larder-pool", LONG)?;
    vm.expect("cat /etc/machine-id; hostid; hostname", itself.trim())?;
    vm.check_within(&format!("printf '%s\\n' '{PASSPHRASE}' | firstboot unlock"), LONG)?;
    vm.expect("cat /mnt/tank/photos", "twenty years")
}

/// A medium as it comes from `larder flash`.
fn replace(medium: &Disk) -> Result<()> {
    let size = fs_err::metadata(medium.path())?.len();
    fs_err::remove_file(medium.path())?;
    let image = larder_tests::image()?;
    let copied =
        std::process::Command::new("cp").arg("--sparse=always").args([image.as_path(), medium.path()]).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(fs_err::OpenOptions::new().write(true).open(medium.path())?.set_len(size)?)
}
