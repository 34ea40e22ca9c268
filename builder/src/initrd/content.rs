//! What goes into the initrd, and why. Paths are relative to the root.

/// Where systemd's own units are.
pub(super) const UNITS: &str = "usr/lib/systemd/system";

/// Folders that something is mounted on.
pub(super) const MOUNT_POINTS: &[&str] = &["dev", "proc", "sys", "run", "sysroot", "tmp", "var", "root"];

/// Links besides the merged /usr: the kernel's entry point, the target that systemd starts.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("init", "usr/lib/systemd/systemd"),
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/initrd.target"),
];

/// Programs; their libraries follow by themselves.
pub(super) fn programs() -> impl Iterator<Item = &'static str> {
    const PROGRAMS: &[&str] = &[
        "usr/lib/systemd/systemd",
        "usr/lib/systemd/systemd-executor",
        "usr/lib/systemd/systemd-shutdown",
        "usr/bin/systemctl",
        // Devices appear by udev, whose daemon is a name of udevadm.
        "usr/bin/udevadm",
        "usr/lib/systemd/systemd-udevd",
        // The root: roothash= becomes a unit that opens the verity device; root= becomes sysroot.mount.
        "usr/lib/systemd/systemd-veritysetup",
        "usr/lib/systemd/system-generators/systemd-veritysetup-generator",
        "usr/lib/systemd/system-generators/systemd-fstab-generator",
        "usr/lib/systemd/systemd-sysroot-fstab-check",
        // The rules of device mapper tell udev when a device is ready.
        "usr/sbin/dmsetup",
        "usr/bin/mount",
        "usr/bin/sleep",
        // The kernel asks for modules by this name.
        "usr/bin/kmod",
        "usr/sbin/modprobe",
        "usr/lib64/ld-linux-x86-64.so.2",
    ];
    PROGRAMS.iter().copied()
}

/// Libraries that systemd opens by name when it needs them (its `.note.dlopen` sections).
pub(super) fn libraries() -> impl Iterator<Item = &'static str> {
    const LIBRARIES: &[&str] = &["usr/lib/x86_64-linux-gnu/libkmod.so.2"];
    LIBRARIES.iter().copied()
}

/// Units, rules and tables.
pub(super) fn data() -> impl Iterator<Item = String> {
    const UDEV_RULES: &[&str] = &[
        "50-udev-default.rules",
        "55-dm.rules",
        "60-block.rules",
        "60-persistent-storage.rules",
        "60-persistent-storage-dm.rules",
        "80-drivers.rules",
        "95-dm-notify.rules",
        "99-systemd.rules",
    ];
    const TABLES: &[&str] = &["etc/passwd", "etc/group", "usr/lib/os-release"];
    let units = UNIT_NAMES.iter().map(|name| format!("{UNITS}/{name}"));
    let rules = UDEV_RULES.iter().map(|name| format!("usr/lib/udev/rules.d/{name}"));
    units.chain(rules).chain(TABLES.iter().map(|&path| path.to_owned()))
}

/// systemd's boot-up in the initrd (bootup(7), "Bootup in the initrd") and the way down when it fails.
const UNIT_NAMES: &[&str] = &[
    "basic.target",
    "cryptsetup-pre.target",
    "emergency.target",
    "final.target",
    "initrd-cleanup.service",
    "initrd-fs.target",
    "initrd-parse-etc.service",
    "initrd-root-device.target",
    "initrd-root-fs.target",
    "initrd-switch-root.service",
    "initrd-switch-root.target",
    "initrd-udevadm-cleanup-db.service",
    "initrd-usr-fs.target",
    "initrd.target",
    "local-fs-pre.target",
    "local-fs.target",
    "paths.target",
    "reboot.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "system-systemd\\x2dveritysetup.slice",
    "systemd-reboot.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "timers.target",
    "umount.target",
    "veritysetup-pre.target",
    "veritysetup.target",
];

/// (wanting unit, wanted unit): the few of systemd's own wants that the initrd keeps.
pub(super) const WANTS: &[(&str, &str)] = &[
    ("sysinit.target", "systemd-udevd.service"),
    ("sysinit.target", "systemd-udev-trigger.service"),
    ("sysinit.target", "veritysetup.target"),
    ("sockets.target", "systemd-udevd-control.socket"),
    ("sockets.target", "systemd-udevd-kernel.socket"),
];
