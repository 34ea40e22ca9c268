//! What may be typed: clap structures only.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

/// Builds a minimal, immutable, bootable Debian + ZFS image for small home servers.
///
/// Exit status: 0 done, 1 something that you can mend (the message says how), 2 a fault of larder.
#[derive(Debug, Parser)]
#[command(name = "larder", version, after_help = ENVIRONMENT)]
pub(super) struct Args {
    /// Folder with `profiles` and `overlays` [default: the nearest one upwards, else the source tree]
    #[arg(long, global = true, value_name = "DIR", env = "LARDER_PROJECT", display_order = LAST)]
    pub(super) project: Option<PathBuf>,
    /// Print errors only
    #[arg(long, short, global = true, display_order = LAST)]
    pub(super) quiet: bool,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Options that every verb has come after its own.
const LAST: usize = 100;

const ENVIRONMENT: &str = "Environment:
  LARDER_CACHE_DIR      where packages and results of stages are kept [default: ~/.cache/larder]
  LARDER_MIRROR_NAME    address of an archive instead of the profile's (NAME: DEBIAN_SECURITY, ...)
  LARDER_ACCEL          kvm or tcg: how `larder try` runs the machine [default: detected]";

const FLASH: &str = "Without --device, all disks are listed, with what is on them and why one cannot be written to.
A disk is refused when it is in use, when the running system is on it, when it belongs to a
pool, is too small (6 GB are enough), is built in (unless --internal) or is not named as in
/dev/disk/by-id. Before anything is written, the last four characters of its serial number
have to be typed.

What was on the disk is lost. Nothing starts from it until all was written, read back and
compared.";

const PUBLISH: &str = "Appliances fetch DIR/CHANNEL/PROFILE.json, which must be signed with the project's release keys;
it names everything else by its digest. What was published stays as it is; a release that --keep
drops goes two days later.

Without --key nothing that appliances see changes: DIR/CHANNEL/PROFILE.unsigned.json is to be
signed, on another machine if you like (`larder keys sign`; the signature is over digests, the
build is not needed), and then `larder publish --signed FILE --to DIR` puts it in its place.

The same build again gives its channel more time. A channel that has expired is not believed, so
that nobody can hold updates back without being noticed: publish before that, whether there is
something new or not.";

const KEYS: &str = "The public keys are in profiles/release-keys/N.json, to be kept in git; the newest set goes into
every image that is built. Secret keys are files of minisign, encrypted with a passphrase; no
build needs one. Keep a copy on paper or on a stick: without it no appliance out there takes an
update any more.

To change keys, make a new one and `larder keys rotate --add NEW --remove OLD`: the old keys must
sign the change, so that appliances follow, and the new ones too. Until both have, the change
waits in next.json for `larder keys sign`.";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Resolve a profile's packages against the signed Debian archive and write its lock
    Lock(LockArgs),
    /// Build a bootable image
    Build(BuildArgs),
    /// Build an image and boot it in a virtual machine, at its console
    Try(TryArgs),
    /// Write an image to a stick, a card or a disk, and check that it is there
    #[command(after_help = FLASH)]
    Flash(FlashArgs),
    /// Put a settings file on an image, or on a disk that an image was written to
    Seed(SeedArgs),
    /// Make a build the newest release of a channel, for any static web server
    #[command(after_help = PUBLISH)]
    Publish(PublishArgs),
    /// Serve the folder of `larder publish`, to try it at home
    Serve(ServeArgs),
    /// Keys that releases are signed with
    #[command(after_help = KEYS)]
    Keys {
        #[command(subcommand)]
        verb: KeysVerb,
    },
    /// Make a recovery key for a setup that nobody attends; print it as text and QR code
    RecoveryKey,
    /// Look for what an image must not have: identities, leftovers, broken links, bad units
    Lint(LintArgs),
    /// List the hardware profiles, or say more about them
    Profiles {
        #[command(subcommand)]
        verb: Option<ProfilesVerb>,
    },
    /// Say what takes room in an image: packages, modules, firmware
    Sizes(SizesArgs),
    /// Say what is inside an image, and whether it is whole
    Inspect(InspectArgs),
    /// Say what pulls a package into an image, or what a file in it comes from
    Why(WhyArgs),
    /// Say what changed between two builds: versions, security fixes, sizes, files
    Diff(DiffArgs),
    /// Look after the store of packages and results
    Cache {
        #[command(subcommand)]
        verb: CacheVerb,
    },
    /// Programs that larder brings along: mkfs.erofs, veritysetup, QEMU, ...
    Tools {
        #[command(subcommand)]
        verb: ToolsVerb,
    },
    /// Write the id maps of another process.
    #[command(hide = true)]
    MapIds { pid: u32, uid: u32, gid: u32 },
    /// Enter the namespaces of a sandbox.
    #[command(hide = true)]
    SandboxExec(SandboxArgs),
    /// Build a sandbox's root and run a program in it.
    #[command(hide = true)]
    SandboxInit(SandboxArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct SandboxArgs {
    pub(super) spec: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) argv: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct LockArgs {
    /// Lock this profile [default: every profile and every tools tree]
    #[arg(long, short)]
    pub(super) profile: Option<String>,
    /// Lock this tools tree
    #[arg(long, conflicts_with = "profile")]
    pub(super) tools: Option<String>,
    /// Write nothing; exit 1 when a lock is not what the archive would give now
    #[arg(long)]
    pub(super) check: bool,
}

/// How far a build may go.
#[derive(Debug, ClapArgs)]
pub(super) struct LimitArgs {
    /// Use the lock as it is, or fail
    #[arg(long)]
    pub(super) locked: bool,
    /// Use no network
    #[arg(long)]
    pub(super) offline: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct BuildArgs {
    /// Hardware profile: the stem of a file in `profiles`; may be repeated
    #[arg(long = "profile", short, required_unless_present = "all", conflicts_with = "all")]
    pub(super) profiles: Vec<String>,
    /// Build the images of all profiles
    #[arg(long)]
    pub(super) all: bool,
    /// Version of the image [default: the date of the lock]
    #[arg(long = "version", value_name = "VERSION")]
    pub(super) image_version: Option<String>,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    /// Print each stage: its key, whether its result was in the store, and why it ran again
    #[arg(long)]
    pub(super) explain: bool,
    /// Where the image goes
    #[arg(long, short, value_name = "DIR", default_value = "out")]
    pub(super) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
#[group(id = "what", args = ["profile", "image"])]
pub(super) struct FlashArgs {
    /// Build an image of this profile and write it
    #[arg(long, short, requires = "device", conflicts_with = "image")]
    pub(super) profile: Option<String>,
    /// Write this .img or .img.zst
    #[arg(long, value_name = "FILE", requires = "device")]
    pub(super) image: Option<PathBuf>,
    /// Disk to write to, as in /dev/disk/by-id
    #[arg(long, value_name = "NAME", requires = "what")]
    pub(super) device: Option<PathBuf>,
    /// Settings file for the partition LARDER; it is checked first
    #[arg(long, value_name = "FILE", requires = "device")]
    pub(super) config: Option<PathBuf>,
    /// Allow disks that are built in
    #[arg(long)]
    pub(super) internal: bool,
    /// The last four characters of the disk's serial number, instead of being asked for them
    #[arg(long, value_name = "XXXX", requires = "device")]
    pub(super) yes_serial: Option<String>,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

/// A secret key, and how it is opened.
#[derive(Debug, ClapArgs)]
pub(super) struct KeyArgs {
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// File with the key's passphrase [default: asked for at the terminal]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(super) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct PublishArgs {
    /// An output folder, or a file of a build
    #[arg(value_name = "BUILD", required_unless_present = "signed", conflicts_with = "signed")]
    pub(super) build: Option<String>,
    /// Folder that is served
    #[arg(long, value_name = "DIR")]
    pub(super) to: PathBuf,
    /// Channel that the release goes to
    #[arg(long, value_name = "CHANNEL", default_value = "stable")]
    pub(super) channel: String,
    #[command(flatten)]
    pub(super) key: KeyArgs,
    /// Days until the channel expires
    #[arg(long, value_name = "DAYS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(super) expires: u32,
    /// Oldest version that may install this release; older ones take one in between
    #[arg(long, value_name = "VERSION")]
    pub(super) minimum_version: Option<String>,
    /// Releases that are kept, and from which there is a delta
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(super) keep: u32,
    /// Fetch nothing: leave out security fixes that are named in packages which are not in the store
    #[arg(long)]
    pub(super) offline: bool,
    /// Put this in its place: what `larder publish` without --key left, signed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "minimum_version"])]
    pub(super) signed: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ServeArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Port to listen at; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(super) port: u16,
    /// Address to listen at; 0.0.0.0 serves the whole network
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(super) listen: std::net::IpAddr,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysVerb {
    /// Make a key; the first one becomes the project's release key
    New {
        /// File for the secret key, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// File with the passphrase [default: asked for at the terminal]
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Print the keys that count
    Show,
    /// Change the set of keys
    Rotate {
        /// Public key to add; may be repeated
        #[arg(long, value_name = "PUBLIC")]
        add: Vec<String>,
        /// Public key to remove; may be repeated
        #[arg(long, value_name = "PUBLIC")]
        remove: Vec<String>,
        /// How many of the keys must sign a release [default: as many as now]
        #[arg(long, value_name = "N")]
        threshold: Option<u32>,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Sign a channel or a set of keys
    Sign {
        /// What is to be signed; the signature is added to it
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Secret key to sign with
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// File with the key's passphrase [default: asked for at the terminal]
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct SeedArgs {
    /// An .img, or a disk as in /dev/disk/by-id
    #[arg(value_name = "IMG|DEVICE")]
    pub(super) target: PathBuf,
    /// Settings file; it is checked first
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(super) struct LintArgs {
    /// Hardware profile whose root is made, as far as it is not there, and looked over
    #[arg(long, short, required_unless_present = "list", conflicts_with = "list")]
    pub(super) profile: Option<String>,
    /// List the lints and what each protects from
    #[arg(long)]
    pub(super) list: bool,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct TryArgs {
    /// Hardware profile
    #[arg(long, short, default_value = "qemu", conflicts_with = "image")]
    pub(super) profile: String,
    /// Boot this image instead of building one
    #[arg(long, value_name = "FILE")]
    pub(super) image: Option<PathBuf>,
    /// Show an update instead: build two versions, publish and serve them, install the newer one from the older one
    #[arg(long, conflicts_with_all = ["image", "forward"])]
    pub(super) update: bool,
    /// Number of empty virtual NVMe disks for a pool
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(super) disks: usize,
    /// Memory of the machine in MiB
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    pub(super) memory: u32,
    /// Forward this port of 127.0.0.1 to a port of the machine; may be repeated
    #[arg(long, value_name = "HOST:GUEST", value_parser = port_pair)]
    pub(super) forward: Vec<(u16, u16)>,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

fn port_pair(text: &str) -> Result<(u16, u16), String> {
    let (host, guest) = text.split_once(':').ok_or("write HOST:GUEST, such as 8080:80")?;
    let port = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a port"));
    Ok((port(host)?, port(guest)?))
}

#[derive(Debug, ClapArgs)]
pub(super) struct WhyArgs {
    /// A package's name, or a path in the image that begins with a slash
    #[arg(value_name = "PACKAGE|FILE")]
    pub(super) what: String,
    /// Hardware profile
    #[arg(long, short)]
    pub(super) profile: String,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProfilesVerb {
    /// Print all that a profile comes to, each value with the file that says it
    Show {
        /// Hardware profile
        profile: String,
    },
    /// Say which profile a machine wants, the best one first, and why
    Detect {
        /// A dump of another machine, `lspci -nn` and its DMI names [default: this machine]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Print the JSON Schema of profiles, which `profiles/schema.json` holds
    Schema,
}

#[derive(Debug, ClapArgs)]
pub(super) struct SizesArgs {
    /// Hardware profile
    #[arg(long, short)]
    pub(super) profile: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct InspectArgs {
    /// An image: .img or .img.zst
    pub(super) image: PathBuf,
    /// Print JSON
    #[arg(long, conflicts_with = "compare")]
    pub(super) json: bool,
    /// Compare with another image instead: the first differing partition and file; exit 1 when there is one
    #[arg(long, value_name = "OTHER")]
    pub(super) compare: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct DiffArgs {
    /// The older: an output folder, a file of a build, a lock, or REVISION:LOCK for one in git
    #[arg(value_name = "A")]
    pub(super) old: String,
    /// The newer one
    #[arg(value_name = "B")]
    pub(super) new: String,
    /// List the files of the image that changed
    #[arg(long)]
    pub(super) files: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Fetch nothing: leave out what is said in packages that are not in the store
    #[arg(long)]
    pub(super) offline: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// Print the store's folder
    Dir,
    /// Print how much is in the store, by kind
    Size,
    /// Remove what was not used for some days
    Prune {
        /// Days without use
        #[arg(long, default_value_t = 30)]
        days: u64,
    },
    /// Read everything, and remove what is damaged; exit 1 when something was
    Verify,
    /// Remove everything
    Clean,
}

#[derive(Debug, Subcommand)]
pub(super) enum ToolsVerb {
    /// List the tools trees
    List,
    /// Run a program of a tools tree
    Run {
        /// Name of the tools tree
        tree: String,
        /// Host folder that the program may read and write; may be repeated
        #[arg(long, value_name = "DIR")]
        bind: Vec<PathBuf>,
        /// Leave the host's network visible
        #[arg(long)]
        network: bool,
        #[command(flatten)]
        limits: LimitArgs,
        /// Program and arguments
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
}
