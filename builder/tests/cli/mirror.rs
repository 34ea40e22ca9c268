//! A mirror on 127.0.0.1 that may be told to misbehave.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::archive::{SignedFolder, date, sha256};
use crate::package::Package;
use crate::server::{Reply, Request, Server};

/// The suite that it has.
pub const SUITE: &str = "trixie";
/// Where its index is.
pub const INDEX: &str = "debian/dists/trixie/main/binary-amd64/Packages.xz";

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What is wrong with a file.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after this many bytes of the file, whatever part was asked for.
    EndsAfter(usize),
    /// No byte after this many, and the connection stays.
    StallsAfter(usize),
    /// Other content.
    Other(Vec<u8>),
}

#[derive(Debug)]
pub struct Mirror {
    archive: SignedFolder,
    started: Timestamp,
    server: Server,
    faults: Arc<Mutex<HashMap<String, Fault>>>,
    /// Everything that it ever published, by its digest.
    published: Mutex<HashMap<String, Vec<u8>>>,
}

impl Mirror {
    pub fn start() -> Self {
        let started = Timestamp::now();
        let archive = SignedFolder::new(started - HOUR);
        let faults = Arc::<Mutex<HashMap<String, Fault>>>::default();
        let (folder, switched) = (archive.path().to_owned(), faults.clone());
        let server = Server::start(move |request| {
            let fault = switched.lock().unwrap().get(&request.path).cloned();
            reply(&folder, request, fault.as_ref())
        });
        Self { archive, started, server, faults, published: Mutex::default() }
    }

    /// Base address of its archive.
    pub fn address(&self) -> String {
        self.server.url("debian")
    }

    /// A file that it serves.
    pub fn path(&self, path: &str) -> PathBuf {
        self.archive.path().join(path)
    }

    pub fn public_key(&self) -> Vec<u8> {
        self.archive.public_key()
    }

    /// Publishes these packages, in place of all that were there.
    pub fn publish(&self, packages: &[Package]) {
        self.publish_with(HOUR, "", packages);
    }

    /// The same with a release that is a day older than the others, and as valid.
    pub fn go_back_to(&self, packages: &[Package]) {
        self.publish_with(HOUR * 25, "", packages);
    }

    /// The same with a release that has expired.
    pub fn publish_expired(&self, packages: &[Package]) {
        let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
        self.publish_with(HOUR, &format!("Valid-Until: {}\n", date(yesterday)), packages);
    }

    /// The program has no clock for tests: releases are really of `age` ago.
    fn publish_with(&self, age: SignedDuration, release: &str, packages: &[Package]) {
        let pool = self.path("debian/pool");
        let _ = fs_err::remove_dir_all(&pool);
        fs_err::create_dir_all(&pool).unwrap();
        for package in packages {
            let deb = package.deb();
            fs_err::write(self.path("debian").join(package.path()), &deb).unwrap();
            self.remember(deb);
        }
        let stanzas: String = packages.iter().map(Package::stanza).collect();
        self.archive.publish_at(self.started - age, SUITE, release, &stanzas);
        self.remember(fs_err::read(self.path(INDEX)).unwrap());
    }

    fn remember(&self, content: Vec<u8>) {
        self.published.lock().unwrap().insert(sha256(&content), content);
    }

    /// The published file of this digest.
    pub fn published(&self, sha256: &str) -> Option<Vec<u8>> {
        self.published.lock().unwrap().get(sha256).cloned()
    }

    /// Breaks a file, by its path below the server.
    pub fn break_file(&self, path: &str, fault: Fault) {
        self.faults.lock().unwrap().insert(path.to_owned(), fault);
    }

    /// Mends all files.
    pub fn mend(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Bytes of this file that went out so far.
    pub fn sent(&self, path: &str) -> usize {
        self.server.sent(path)
    }

    /// How often this file was asked for.
    pub fn requests(&self, path: &str) -> usize {
        self.server.requests().iter().filter(|request| request.path == path).count()
    }
}

fn reply(folder: &Path, request: &Request, fault: Option<&Fault>) -> Reply {
    let content = match fault {
        Some(Fault::Other(content)) => content.clone(),
        _ => match fs_err::read(folder.join(&request.path)) {
            Ok(content) => content,
            Err(_) => return Reply::status(404),
        },
    };
    let first = request.range.unwrap_or(0);
    if first >= content.len() {
        return Reply::status(416);
    }
    let reply = Reply::ranged(&content, request);
    match fault {
        Some(&Fault::EndsAfter(length)) => reply.cut(length.saturating_sub(first)),
        Some(&Fault::StallsAfter(length)) => reply.cut(length.saturating_sub(first)).hold(Duration::from_secs(20)),
        _ => reply,
    }
}
