use super::*;

/// An N150 box with two network cards, one NVMe drive and soldered flash; every message in the words of Linux 6.12.
struct Sample(tempfile::TempDir);

const DESCRIPTION: &str = include_str!("../fixtures/beelink-me-mini.json");
const LOG: &str = include_str!("../fixtures/beelink-me-mini.dmesg");

impl Sample {
    fn new() -> Self {
        let sample = Self(tempfile::tempdir().unwrap());
        sample.put(super::super::DESCRIPTION, DESCRIPTION);
        sample.put("dev/kmsg", LOG);
        sample.put("proc/cmdline", "quiet roothash=00");
        sample.put("proc/meminfo", "MemTotal:       12034644 kB\n");
        sample.put("sys/class/dmi/id/sys_vendor", "AZW\n");
        sample.put("sys/class/dmi/id/product_name", "ME mini\n");
        sample.pci("0000:00:02.0", "8086:46d4", 0x03_00_00, Some("i915"));
        sample.pci("0000:01:00.0", "8086:125c", 0x02_00_00, Some("igc"));
        sample.pci("0000:02:00.0", "8086:125c", 0x02_00_00, Some("igc"));
        sample.put("sys/block/nvme0n1/wwid", "eui.0025385c2140a1b2");
        sample.put("sys/block/nvme0n1/device/serial", "S4J4NX0R");
        sample.put("sys/block/mmcblk0/device/serial", "0x1");
        sample.put("sys/block/mmcblk0boot0/device/serial", "0x1");
        sample.put("sys/block/mmcblk0boot0/ro", "1");
        sample
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn pci(&self, address: &str, id: &str, class: u32, driver: Option<&str>) {
        let (vendor, device) = id.split_once(':').unwrap();
        let folder = format!("sys/bus/pci/devices/{address}");
        self.put(&format!("{folder}/vendor"), &format!("0x{vendor}\n"));
        self.put(&format!("{folder}/device"), &format!("0x{device}\n"));
        self.put(&format!("{folder}/class"), &format!("0x{class:06x}\n"));
        let link = self.0.path().join(folder).join("driver");
        let _ = std::fs::remove_file(&link);
        if let Some(driver) = driver {
            std::os::unix::fs::symlink(format!("../drivers/{driver}"), link).unwrap();
        }
    }

    fn log(&self, more: &str) {
        self.put("dev/kmsg", &format!("{LOG}{more}"));
    }

    fn findings(&self) -> String {
        let found = System::at(self.0.path()).unwrap().findings();
        found.iter().map(|finding| format!("{:?} {finding}\n", finding.severity)).collect()
    }
}

#[test]
fn a_machine_that_is_well_gives_no_findings() {
    assert_eq!(Sample::new().findings(), "");
}

#[test]
fn every_check_has_the_name_that_profiles_use() {
    for check in CHECKS {
        assert_eq!(serde_json::to_value(check).unwrap(), check.id());
    }
}

#[test]
fn a_network_card_without_a_driver_is_named_with_the_reason() {
    let sample = Sample::new();
    sample.pci("0000:02:00.0", "8086:125c", 0x02_00_00, None);
    sample.pci("0000:03:00.0", "10ec:8127", 0x02_00_00, None);
    insta::assert_snapshot!(sample.findings(), @r"
    Warning network-without-driver: the network card 8086:125c at 0000:02:00.0 (2.5 Gbit/s Intel i226-V) does nothing: no driver in this kernel has taken it.
      next: use another port, or a USB network card; `firstboot hardware detect` says which image is for this machine
    Warning network-without-driver: the network card 10ec:8127 at 0000:03:00.0 (10 Gbit/s Realtek RTL8127) does nothing: Linux has a driver for it from 6.16 on.
      next: use another port, or a USB network card; `firstboot hardware detect` says which image is for this machine
    ");
}

#[test]
fn a_gpu_without_a_driver_is_told_where_the_image_has_graphics() {
    let sample = Sample::new();
    sample.pci("0000:00:02.0", "8086:46d4", 0x03_00_00, None);
    insta::assert_snapshot!(sample.findings(), @r"
    Warning graphics-without-driver: the GPU 8086:46d4 at 0000:00:02.0 does nothing: no driver in this kernel has taken it.
      next: `firstboot hardware detect` says which image is for this machine; until then the CPU encodes
    ");
    let without = DESCRIPTION.replace("\"graphics\": {", "\"graphics\": null, \"boards\": {");
    let mut description: serde_json::Value = serde_json::from_str(&without).unwrap();
    description.as_object_mut().unwrap().remove("boards");
    sample.put(super::super::DESCRIPTION, &description.to_string());
    assert_eq!(sample.findings(), "");
}

#[test]
fn a_gpu_without_its_firmware_is_found_with_what_the_kernel_says() {
    let sample = Sample::new();
    let failed = LOG.replace(
        "i915 0000:00:02.0: [drm] GT0: HuC: authenticated for all workloads",
        "i915 0000:00:02.0: [drm] *ERROR* GT0: HuC firmware i915/tgl_huc.bin: fetch failed -ENOENT",
    );
    sample.put("dev/kmsg", &failed);
    insta::assert_snapshot!(sample.findings(), @r"
    Warning huc-not-authenticated: the GPU's HuC firmware was not authenticated, so it encodes slowly or not at all. The kernel says: i915 0000:00:02.0: [drm] *ERROR* GT0: HuC firmware i915/tgl_huc.bin: fetch failed -ENOENT
      next: see that nothing on the kernel's command line sets i915.enable_guc to 0 or 1, then restart
    ");
}

#[test]
fn a_jmb585_that_is_not_kept_to_32_bits_is_a_danger_to_data() {
    let sample = Sample::new();
    sample.pci("0000:c1:00.0", "197b:0585", 0x01_06_01, Some("ahci"));
    sample.log("6,900,2000000,-;ahci 0000:c1:00.0: AHCI vers 0001.0301, 32 command slots, 6 Gbps, SATA mode\n");
    insta::assert_snapshot!(sample.findings(), @r"
    Failure jmb585-dma: the SATA controller 197b:0585 at 0000:c1:00.0 is not kept to 32-bit addresses: on some boards it then corrupts data without any error.
      next: make no pool on its ports; start an image whose kernel has the quirk, or add amd_iommu=pgtbl_v2 to the profile's kernel.command-line
    ");
    sample.put("proc/cmdline", "quiet amd_iommu=pgtbl_v2");
    assert_eq!(sample.findings(), "");
    sample.put("proc/cmdline", "quiet");
    sample.log("6,900,2000000,-;ahci 0000:c2:00.0: controller can't do 64bit DMA, forcing 32bit\n");
    assert!(sample.findings().contains("jmb585-dma"), "the message of another controller counts");
    sample.log("6,900,2000000,-;ahci 0000:c1:00.0: controller can't do 64bit DMA, forcing 32bit\n");
    assert_eq!(sample.findings(), "");
}

#[test]
fn drives_with_one_id_are_found() {
    let sample = Sample::new();
    sample.put("sys/block/nvme1n1/wwid", "eui.0025385c2140a1b2");
    sample.put("sys/block/nvme1n1/device/serial", "S4J4NX0S");
    sample.log("3,901,2000000,-;nvme nvme2: globally duplicate IDs for nsid 1\n");
    insta::assert_snapshot!(sample.findings(), @r"
    Failure nvme-duplicate-ids: the drives nvme0n1 and nvme1n1 have one id, `eui.0025385c2140a1b2`: nothing can tell them apart after a restart.
      next: put only one of them into a pool, or update the drives' firmware
    Failure nvme-duplicate-ids: the kernel has found an id of nvme2 on another drive too, and ignores the drive.
      next: put only one of the two into the machine, or update the drives' firmware
    ");
}

#[test]
fn drives_of_one_serial_and_different_ids_are_fine() {
    let sample = Sample::new();
    sample.put("sys/block/nvme1n1/wwid", "eui.0025385c2140a1b3");
    sample.put("sys/block/nvme1n1/device/serial", "S4J4NX0R");
    assert_eq!(sample.findings(), "");
}

#[test]
fn a_boot_area_of_the_flash_that_can_be_written_to_is_found() {
    let sample = Sample::new();
    sample.put("sys/block/mmcblk0boot0/ro", "0");
    insta::assert_snapshot!(sample.findings(), @r"
    Warning emmc-boot-areas: the area mmcblk0boot0 of the soldered flash can be written to: it is the firmware's, and no disk for data.
      next: echo 1 > /sys/block/mmcblk0boot0/force_ro
    ");
}

#[test]
fn less_memory_than_the_profile_needs_is_found_but_not_what_the_gpu_takes() {
    let sample = Sample::new();
    sample.put("proc/meminfo", "MemTotal:       11000000 kB\n");
    assert_eq!(sample.findings(), "");
    sample.put("proc/meminfo", "MemTotal:        8034644 kB\n");
    insta::assert_snapshot!(sample.findings(), @r"
    Warning less-memory: there are 7846 MiB of memory, and this image is made for 12 GiB.
      next: add memory, or see that a module of it is seated well; until then expect programs to be ended
    ");
}

#[test]
fn the_image_of_another_machine_is_found_and_the_right_one_is_named() {
    let sample = Sample::new();
    sample.put("sys/class/dmi/id/sys_vendor", "Topton\n");
    assert_eq!(sample.findings(), "", "a name alone is no proof");
    sample.pci("0000:00:02.0", "8086:46d1", 0x03_00_00, Some("i915"));
    insta::assert_snapshot!(sample.findings(), @r"
    Warning wrong-profile: this image is for `beelink-me-mini`, but the machine is another one (its firmware says vendor `Topton`, product `ME mini`, not vendor `AZW` and product `*ME*mini*`; has no 8086:46d4; has 8086:125c).
      next: write the image of the profile `generic-n150` to the boot medium; settings and pools stay
    ");
}

#[test]
fn a_drive_that_leaves_its_bus_is_found_with_what_is_known_about_the_board() {
    let sample = Sample::new();
    sample.log(
        "4,910,9000000,-;nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff\n\
         4,911,9000001,-;nvme nvme0: Does your device have a faulty power saving mode enabled?\n\
         3,912,9100000,-;nvme nvme0: Disabling device after reset failure: -19\n\
         4,913,9200000,-;ata3.00: disable device\n\
         6,914,9300000,-;ata4: SATA link down (SStatus 0 SControl 300)\n",
    );
    insta::assert_snapshot!(sample.findings(), @r"
    Failure drive-dropped: ata3.00 has stopped to answer once since the start: power, cable, slot or drive are failing. On this board drives drop out under load.
      next: use fewer drives, or such that need less power; read `journalctl -k`; check the power supply, seat the drive anew, try it in another slot
    Failure drive-dropped: nvme0 has stopped to answer 2 times since the start: power, cable, slot or drive are failing. On this board drives drop out under load.
      next: use fewer drives, or such that need less power; read `journalctl -k`; check the power supply, seat the drive anew, try it in another slot
    ");
}

#[test]
fn an_image_that_does_not_say_what_it_is_for_is_an_error() {
    let sample = Sample::new();
    std::fs::remove_file(sample.0.path().join(super::super::DESCRIPTION)).unwrap();
    let error = format!("{:#}", System::at(sample.0.path()).unwrap_err());
    assert!(error.starts_with("this image does not say which hardware it is for: "), "{error}");
}
