//! QEMU's command line.

use std::path::Path;

use serde_json::{Value, json};

use crate::guest::{self, Guest};
use crate::machine::{BootMedium, Machine, kernel_path};
use crate::vm::Attendance;
use crate::{Acceleration, Disk, Error, Result, tpm};

/// All arguments for `machine`.
pub(crate) fn arguments(machine: &Machine, acceleration: Acceleration, attendance: Attendance) -> Result<Vec<String>> {
    let folder = machine.folder();
    let mut args = Args::default();
    args.0.extend(acceleration.arguments().map(String::from));
    args.base(machine);
    args.firmware(machine);
    args.console(attendance, &machine.console);
    args.add("-chardev", format!("socket,id=qmp,server=on,wait=off,path={}", escaped(&qmp_socket(folder))));
    args.add("-mon", "chardev=qmp,mode=control");
    args.media(machine);
    let is_in = |i| !machine.disks_out.contains(&i);
    machine.disks.iter().enumerate().filter(|(i, _)| is_in(*i)).for_each(|(i, disk)| args.nvme(i, disk));
    args.network(machine);
    if machine.hardware.tpm {
        args.add("-chardev", format!("socket,id=tpm,path={}", escaped(&tpm::socket(folder))));
        args.add("-tpmdev", "emulator,id=tpm0,chardev=tpm");
        args.add("-device", "tpm-crb,tpmdev=tpm0");
    }
    if machine.hardware.agent {
        args.add("-chardev", format!("socket,id=guest,server=on,wait=off,path={}", escaped(&Guest::socket(folder))));
        args.add("-device", "virtio-serial-pci");
        args.add("-device", format!("virtserialport,chardev=guest,name={}", guest::PORT));
    }
    args.smbios(machine)?;
    Ok(args.0)
}

/// The QMP device properties of NVMe disk `index`: the same when cold- and hot-plugged.
pub(crate) fn nvme_device(index: usize, disk: &Disk) -> Value {
    let (id, bus) = (disk_id(index), format!("port{index}"));
    json!({ "driver": "nvme", "id": id, "drive": format!("{id}-file"), "serial": disk.serial(), "bus": bus })
}

/// The QMP id of NVMe disk `index`.
pub(crate) fn disk_id(index: usize) -> String {
    format!("disk{index}")
}

/// The QMP id of the target `index`.
pub(crate) fn target_id(index: usize) -> String {
    format!("target{index}")
}

pub(crate) fn qmp_socket(folder: &Path) -> std::path::PathBuf {
    folder.join("qmp.sock")
}

/// A path in a `key=value,…` option: commas are doubled.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }

    fn base(&mut self, machine: &Machine) {
        let hardware = &machine.hardware;
        // smm=off: only enforced Secure Boot needs it, and it is slow to emulate.
        self.add("-machine", "q35,smm=off");
        self.add("-name", "larder");
        self.add("-m", hardware.memory_mib.to_string());
        self.add("-smp", hardware.cpus.to_string());
        self.add("-display", "none");
        self.0.extend(["-nodefaults", "-no-user-config"].map(String::from));
    }

    fn firmware(&mut self, machine: &Machine) {
        let code = escaped(&machine.launcher.firmware().code);
        let vars = escaped(&machine.folder().join("vars.fd"));
        self.add("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"));
        self.add("-drive", format!("if=pflash,format=raw,unit=1,file={vars}"));
        // An unreadable boot medium is to be known at once, not after minutes of asking the network.
        for version in [4, 6] {
            self.add("-fw_cfg", format!("name=opt/org.tianocore/IPv{version}PXESupport,string=n"));
        }
        if machine.hardware.kernel {
            self.add("-kernel", kernel_path(machine.folder()).display().to_string());
        }
    }

    fn console(&mut self, attendance: Attendance, log: &Path) {
        let log = escaped(log);
        match attendance {
            // mux=on gives Ctrl-A X; signal=off leaves Ctrl-C to the guest.
            Attendance::Terminal => {
                self.add("-chardev", format!("stdio,id=console,mux=on,signal=off,logfile={log},logappend=on"));
                self.add("-mon", "chardev=console,mode=readline");
            }
            Attendance::Unattended => self.add("-chardev", format!("file,id=console,path={log},append=on")),
        }
        self.add("-serial", "chardev:console");
    }

    /// Host page cache, but the guest's flushes reach the disk; see "What a power cut loses".
    fn blockdev(&mut self, node: &str, disk: &Disk) {
        let file =
            json!({ "driver": "file", "filename": disk.path(), "cache": { "direct": false, "no-flush": false } });
        let blockdev = json!({ "driver": "raw", "node-name": node, "discard": "unmap", "file": file });
        self.add("-blockdev", blockdev.to_string());
    }

    /// The boot medium and the disks that the system can be installed to; the firmware tries what is to be started first.
    fn media(&mut self, machine: &Machine) {
        let start = machine.start;
        let mut media = Vec::new();
        if start.is_medium_in {
            let order = if start.target.is_none() { "bootindex=0" } else { "bootindex=1" };
            media.push(("boot".to_owned(), &machine.boot, machine.medium, 512, Some(order)));
        }
        for (i, target) in machine.targets.iter().enumerate() {
            let order = (start.target == Some(i)).then_some("bootindex=0");
            media.push((target_id(i), &target.disk, target.medium, target.sector, order));
        }
        if media.iter().any(|(_, _, medium, _, _)| *medium == BootMedium::Usb) {
            self.add("-device", "qemu-xhci,id=xhci");
        }
        let mut sata_ports = 0..;
        for (id, disk, medium, sector, order) in media {
            self.blockdev(&format!("{id}-file"), disk);
            let device = match medium {
                BootMedium::Usb => format!("usb-storage,id={id},bus=xhci.0,drive={id}-file,removable=on"),
                BootMedium::Nvme => format!("nvme,id={id},drive={id}-file"),
                BootMedium::Sata => {
                    format!("ide-hd,id={id},drive={id}-file,bus=ide.{}", sata_ports.next().unwrap_or_default())
                }
                BootMedium::Mmc => {
                    self.add("-device", "sdhci-pci,id=sdhci");
                    self.add("-device", format!("sd-card,id={id},drive={id}-file"));
                    continue;
                }
            };
            let sectors = format!("logical_block_size={sector},physical_block_size={sector}");
            let options = [order.map(str::to_owned), (sector != 512).then_some(sectors)];
            let options: String = options.into_iter().flatten().map(|option| format!(",{option}")).collect();
            self.add("-device", format!("{device}{options},serial={}", disk.serial()));
        }
    }

    /// Each NVMe disk has a port of its own: devices on q35's root bus cannot be pulled.
    fn nvme(&mut self, index: usize, disk: &Disk) {
        self.blockdev(&format!("{}-file", disk_id(index)), disk);
        self.add("-device", format!("pcie-root-port,id=port{index},chassis={0},slot={0}", index + 1));
        self.add("-device", nvme_device(index, disk).to_string());
    }

    fn network(&mut self, machine: &Machine) {
        let forward = |forward: &crate::Forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest);
        let forwards: String = machine.forwards.iter().map(forward).collect();
        self.add("-netdev", format!("user,id=net{forwards}"));
        // Without its option ROM: the firmware is not to wait for a network boot.
        self.add("-device", "virtio-net-pci,netdev=net,romfile=");
    }

    /// Strings of type 11, from files: an argument may have 128 KiB, and credentials are nobody else's to read.
    fn smbios(&mut self, machine: &Machine) -> Result<()> {
        let hardware = &machine.hardware;
        let credentials =
            hardware.credentials.iter().map(|(name, value)| format!("io.systemd.credential:{name}={value}"));
        let extra = hardware.kernel_arguments.join(" ");
        let extra = (!extra.is_empty()).then(|| format!("io.systemd.stub.kernel-cmdline-extra={extra}"));
        for (i, string) in credentials.chain(extra).enumerate() {
            let path = machine.folder().join(format!("smbios{i}.txt"));
            fs_err::write(&path, string).map_err(Error::file)?;
            self.add("-smbios", format!("type=11,path={}", escaped(&path)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::Launcher;

    /// Every program succeeds and does nothing.
    #[derive(Debug)]
    struct NoTools;

    impl Launcher for NoTools {
        fn command(&self, _program: &str, _shared: &[&Path]) -> Command {
            Command::new("true")
        }
    }

    fn machine(more: impl FnOnce(crate::MachineBuilder) -> crate::MachineBuilder) -> Machine {
        let image = tempfile::NamedTempFile::new().expect("image");
        more(Machine::with_image(image.path())).build(Arc::new(NoTools)).expect("builds")
    }

    fn shown(machine: &Machine, attendance: Attendance) -> String {
        let args = arguments(machine, Acceleration::Tcg, attendance).expect("gives arguments");
        let lines = args.join("\n").replace("\n-", "\n\0").replace('\n', " ").replace(" \0", "\n-");
        lines.replace(&machine.folder().display().to_string(), "FOLDER")
    }

    #[test]
    fn the_command_line_of_a_test_machine() {
        let machine =
            machine(|builder| builder.disks(1, 1 << 20).forward(Some(8080), 80).agent().kernel_argument("debug"));
        insta::assert_snapshot!(shown(&machine, Attendance::Unattended), @r#"
        -accel tcg,thread=multi
        -cpu max
        -machine q35,smm=off
        -name larder
        -m 2048
        -smp 2
        -display none
        -nodefaults
        -no-user-config
        -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
        -drive if=pflash,format=raw,unit=1,file=FOLDER/vars.fd
        -fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=n
        -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=n
        -chardev file,id=console,path=FOLDER/console.log,append=on
        -serial chardev:console
        -chardev socket,id=qmp,server=on,wait=off,path=FOLDER/qmp.sock
        -mon chardev=qmp,mode=control
        -device qemu-xhci,id=xhci
        -blockdev {"discard":"unmap","driver":"raw","file":{"cache":{"direct":false,"no-flush":false},"driver":"file","filename":"FOLDER/boot.img"},"node-name":"boot-file"}
        -device usb-storage,id=boot,bus=xhci.0,drive=boot-file,removable=on,bootindex=0,serial=larder-boot
        -blockdev {"discard":"unmap","driver":"raw","file":{"cache":{"direct":false,"no-flush":false},"driver":"file","filename":"FOLDER/disk0.img"},"node-name":"disk0-file"}
        -device pcie-root-port,id=port0,chassis=1,slot=1
        -device {"bus":"port0","drive":"disk0-file","driver":"nvme","id":"disk0","serial":"larder-disk0"}
        -netdev user,id=net,hostfwd=tcp:127.0.0.1:8080-:80
        -device virtio-net-pci,netdev=net,romfile=
        -chardev socket,id=tpm,path=FOLDER/tpm.sock
        -tpmdev emulator,id=tpm0,chardev=tpm
        -device tpm-crb,tpmdev=tpm0
        -chardev socket,id=guest,server=on,wait=off,path=FOLDER/guest.sock
        -device virtio-serial-pci
        -device virtserialport,chardev=guest,name=larder.test
        -smbios type=11,path=FOLDER/smbios0.txt
        -smbios type=11,path=FOLDER/smbios1.txt
        -smbios type=11,path=FOLDER/smbios2.txt
        -smbios type=11,path=FOLDER/smbios3.txt
        "#);
    }

    #[test]
    fn a_target_is_started_while_the_stick_is_out_or_comes_second() {
        let build = |builder: crate::MachineBuilder| {
            let builder = builder.target(BootMedium::Sata, 512).target(BootMedium::Nvme, 4096).medium_size(1 << 20);
            builder.target(BootMedium::Mmc, 512)
        };
        let mut machine = machine(build);
        let devices = |machine: &Machine| {
            let shown = shown(machine, Attendance::Unattended);
            let lines = shown.lines().filter(|line| line.contains("-file"));
            lines.filter_map(|line| line.strip_prefix("-device ")).map(str::to_owned).collect::<Vec<_>>().join("\n")
        };
        machine.start_from(Some(1));
        insta::assert_snapshot!(devices(&machine), @r"
        usb-storage,id=boot,bus=xhci.0,drive=boot-file,removable=on,bootindex=1,serial=larder-boot
        ide-hd,id=target0,drive=target0-file,bus=ide.0,serial=larder-target0
        nvme,id=target1,drive=target1-file,bootindex=0,logical_block_size=4096,physical_block_size=4096,serial=larder-target1
        sd-card,id=target2,drive=target2-file
        ");
        machine.set_medium_in(false);
        assert!(!shown(&machine, Attendance::Unattended).contains("xhci"));
    }

    #[test]
    fn a_person_has_the_console_and_a_log() {
        let machine = machine(|builder| {
            builder.medium(BootMedium::Mmc).kernel(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).tpm(false)
        });
        let shown = shown(&machine, Attendance::Terminal);
        assert!(shown.contains("stdio,id=console,mux=on,signal=off,logfile=FOLDER/console.log"), "{shown}");
        assert!(shown.contains("sd-card,id=boot"), "{shown}");
        assert!(!shown.contains("tpm") && !shown.contains("smbios"), "{shown}");
    }

    #[test]
    fn credentials_are_not_on_the_command_line() {
        let machine = machine(|builder| builder.credential("larder.secret", "pass,word"));
        assert!(!shown(&machine, Attendance::Unattended).contains("pass"));
        let string = fs_err::read_to_string(machine.folder().join("smbios0.txt")).expect("is there");
        assert_eq!(string, "io.systemd.credential:larder.secret=pass,word");
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(escaped(Path::new("/a,b/c")), "/a,,b/c");
    }
}
