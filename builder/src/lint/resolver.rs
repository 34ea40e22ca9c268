//! Whom the image asks for names.

use super::root::Kind;
use super::{Finding, Lint};

const PATH: &str = "etc/resolv.conf";
const MEND: &str = "link it to ../run/systemd/resolve/stub-resolv.conf, where systemd-resolved keeps what it learns";

pub(super) const RESOLVER: Lint = Lint {
    name: "resolver",
    protects_from: "the building machine's name servers, or none at all",
    check: |root| {
        let message = match root.get(PATH).map(|node| &node.kind) {
            Some(Kind::Link(target)) => {
                let (Ok(end) | Err(end)) = root.resolve(PATH);
                let made_at_boot = end.starts_with("run");
                (!made_at_boot).then(|| format!("leads to {}, which no boot fills", target.display()))
            }
            Some(Kind::File { .. }) => {
                let text = root.text(PATH)?;
                let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
                let servers: Vec<_> = servers.map(str::trim).collect();
                Some(if servers.is_empty() {
                    "is a file without name servers".to_owned()
                } else {
                    format!("names the servers {}", servers.join(", "))
                })
            }
            Some(_) => Some("is neither link nor file".to_owned()),
            None => root.get("usr/lib/systemd/systemd-resolved").map(|_| "is not there".to_owned()),
        };
        Ok(message.map(|message| Finding::new(PATH, message, MEND)).into_iter().collect())
    },
};

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn only_a_link_to_what_the_boot_makes_is_right() {
        let good = Tree::new().link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        assert_eq!(good.findings(&RESOLVER), Vec::<String>::new());
        let copied = Tree::new().file("etc/resolv.conf", "# theirs\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n");
        assert_eq!(copied.findings(&RESOLVER), ["/etc/resolv.conf: names the servers 10.0.0.1, 10.0.0.2"]);
        let elsewhere = Tree::new().link("etc/resolv.conf", "/var/lib/resolv.conf");
        assert_eq!(
            elsewhere.findings(&RESOLVER),
            ["/etc/resolv.conf: leads to /var/lib/resolv.conf, which no boot fills"]
        );
        let missing = Tree::new().program("usr/lib/systemd/systemd-resolved", "");
        assert_eq!(missing.findings(&RESOLVER), ["/etc/resolv.conf: is not there"]);
    }
}
