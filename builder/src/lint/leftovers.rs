//! What package managers, scripts and editors leave lying about.

use super::root::Kind;
use super::{Finding, Lint, Root};
use crate::path_glob;

const KINDS: &[(&str, &str)] = &[
    (
        "**/*.{dpkg-new,dpkg-old,dpkg-dist,dpkg-tmp,dpkg-bak,ucf-new,ucf-old,ucf-dist}",
        "another state of a configuration file",
    ),
    ("**/.wh.*", "a deletion in a layer of a container"),
    ("**/{*~,.*.swp,nohup.out,core,.DS_Store}", "what an editor or a crash left"),
    ("etc/.pwd.lock", "a lock of the account files"),
    ("etc/{passwd,group,shadow,gshadow,subuid,subgid}-", "the state of an account file before its last change"),
    ("usr/sbin/policy-rc.d", "the build's own ban on starting services"),
    ("var/cache/apt/**", "a cache of the package manager"),
    ("var/cache/debconf/**", "a cache of the package manager"),
    ("var/cache/ldconfig/*", "a cache of ldconfig"),
    ("var/lib/apt/{lists,periodic,extended_states}/**", "a state of the package manager"),
    ("var/lib/dpkg/{lock*,*-old,triggers/Lock,updates/*}", "a lock or a half-done change of the package manager"),
    ("var/lib/systemd/coredump/**", "what a crash left"),
    ("var/log/**", "a log of the build"),
    ("{root,home/*}/.cache/**", "somebody's cache"),
];

pub(super) const LEFTOVERS: Lint = Lint {
    name: "leftovers",
    protects_from: "locks, caches, logs and backup copies of the build",
    check: |root: &Root| {
        let globs = path_glob::set(KINDS.iter().map(|(glob, _)| *glob))?;
        let files = root.nodes().filter(|(_, node)| node.kind != Kind::Folder);
        let found = files.filter_map(|(path, _)| {
            let what = KINDS[*globs.matches(path).first()?].1;
            Some(Finding::new(path, format!("is {what}"), "remove it (`files.remove`)"))
        });
        Ok(found.collect())
    },
};

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn what_the_build_left_is_found() {
        let tree = Tree::new()
            .file("etc/.pwd.lock", "")
            .file("etc/passwd-", "")
            .file("etc/app.conf.dpkg-dist", "")
            .file("usr/sbin/policy-rc.d", "")
            .file("var/cache/apt/pkgcache.bin", "")
            .file("var/lib/apt/lists/lock", "")
            .file("var/lib/dpkg/lock-frontend", "")
            .file("var/lib/dpkg/status", "")
            .file("var/log/dpkg.log", "")
            .folder("var/log/journal")
            .file("etc/fine.conf", "");
        assert_eq!(
            tree.findings(&LEFTOVERS),
            [
                "/etc/.pwd.lock: is a lock of the account files",
                "/etc/app.conf.dpkg-dist: is another state of a configuration file",
                "/etc/passwd-: is the state of an account file before its last change",
                "/usr/sbin/policy-rc.d: is the build's own ban on starting services",
                "/var/cache/apt/pkgcache.bin: is a cache of the package manager",
                "/var/lib/apt/lists/lock: is a state of the package manager",
                "/var/lib/dpkg/lock-frontend: is a lock or a half-done change of the package manager",
                "/var/log/dpkg.log: is a log of the build",
            ]
        );
    }
}
