//! The program inside the tests' trees: does one thing and says how it went. Under another name it plays
//! that program, as far as the stages of a build need it (`miniature`).

use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().expect("a program has a name");
    let args: Vec<String> = args.collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match name.rsplit('/').next() {
        Some("probe") | None => probe(&args),
        Some(part) => play(part, &args).map_or_else(
            |error| {
                eprintln!("{part}: {}", said(&error));
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        ),
    }
}

/// As the C library says it, which all programs that are played do.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "No space left on device".to_owned(),
        _ => error.to_string(),
    }
}

fn probe(args: &[&str]) -> ExitCode {
    let done = match *args {
        ["exit", status] => return ExitCode::from(status.parse::<u8>().expect("a status")),
        ["abort"] => std::process::abort(),
        ["write", path, text] => fs::write(path, text).map(|()| "written".to_owned()),
        ["read", path] => fs::read_to_string(path),
        ["connect", address] => TcpStream::connect(address).map(|_| "connected".to_owned()),
        _ => panic!("probe knows no {args:?}"),
    };
    println!("{}", done.unwrap_or_else(|error| error.kind().to_string()));
    ExitCode::SUCCESS
}

fn play(name: &str, args: &[&str]) -> io::Result<()> {
    let option = |name: &str| args.iter().find_map(|arg| arg.strip_prefix(name)).unwrap_or_default();
    match name {
        "dpkg" => configure(),
        "systemctl" => {
            fs::create_dir_all("/etc/systemd/system")?;
            symlink("/usr/lib/systemd/system/basic.target", "/etc/systemd/system/default.target")
        }
        "mkfs.erofs" => archive(Path::new(args[args.len() - 1]), Path::new(args[args.len() - 2])),
        "ukify" => {
            let mut uki = option("--cmdline=").as_bytes().to_vec();
            for input in [option("--linux="), option("--initrd="), option("--os-release=@")] {
                uki.extend(fs::read(input)?);
            }
            fs::write(option("--output="), uki)
        }
        "depmod" => {
            let folder = Path::new(args[1]).join("usr/lib/modules").join(args[args.len() - 1]);
            fs::write(folder.join("modules.dep"), "kernel/fs/erofs/erofs.ko:\nextra/spl.ko:\nextra/zfs.ko:\n")
        }
        "make" => ["spl", "zfs"].iter().try_for_each(|name| {
            sleep(Duration::from_millis(20));
            fs::copy("/build/zfs/module/module.ko", format!("/build/zfs/module/{name}.ko")).map(drop)
        }),
        "sh" | "strip" => Ok(()),
        _ => panic!("probe does not play {name}"),
    }
}

/// Makes, changes and removes what maintainer scripts do, at a leisurely pace.
fn configure() -> io::Result<()> {
    for n in 0..10 {
        fs::create_dir_all(format!("/etc/conf.d/{n}"))?;
        fs::write(format!("/etc/conf.d/{n}/file"), vec![n; 20_000])?;
        sleep(Duration::from_millis(5));
    }
    fs::remove_dir_all("/usr/share/replaced")?;
    fs::create_dir("/usr/share/replaced")?;
    fs::write("/usr/share/replaced/new", "new")?;
    fs::remove_file("/usr/share/removed")?;
    fs::OpenOptions::new().append(true).open("/usr/share/changed")?.write_all(b"added\n")?;
    let status = fs::read_to_string("/var/lib/dpkg/status")?;
    fs::write("/var/lib/dpkg/status-old", &status)?;
    fs::write("/var/lib/dpkg/status", status.replace(" unpacked", " installed"))
}

/// Everything below `root` in a file of whole blocks: names, modes, owners, contents.
fn archive(root: &Path, to: &Path) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(to)?);
    let mut size = 0;
    let mut queue: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = queue.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let mut content = Vec::new();
        if metadata.is_dir() {
            let mut below = fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            below.sort();
            queue.extend(below);
        } else if metadata.is_symlink() {
            content = fs::read_link(&path)?.into_os_string().into_encoded_bytes();
        } else {
            content = fs::read(&path)?;
        }
        let line = format!("{} {:o} {} {} {}\n", path.display(), metadata.mode(), metadata.uid(), metadata.gid(), content.len());
        for part in [line.as_bytes(), &content] {
            file.write_all(part)?;
            size += part.len();
        }
    }
    file.write_all(&vec![0; size.next_multiple_of(4096) - size])?;
    file.flush()
}
