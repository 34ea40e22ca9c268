//! Running commands in a guest whose image knows nothing of tests.
//!
//! systemd takes credentials from SMBIOS strings of type 11 (systemd.system-credentials(7)); systemd-debug-generator(8)
//! makes units and drop-ins of those named `systemd.extra-unit.*` and `systemd.unit-dropin.*` (since 256). So a service
//! is added from outside; it runs a shell loop, [`AGENT`], on a virtio-serial port whose other end is a unix socket.
//! The guest needs `/sys/firmware/dmi/entries` (CONFIG_DMI_SYSFS), virtio_pci and virtio_console: all three are built
//! into Debian's kernel.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::{Error, Result};

/// Name of the virtio-serial port.
pub(crate) const PORT: &str = "larder.test";

const AGENT: &str = include_str!("agent.sh");

/// The first target that every image reaches wants the agent; it needs no more than basic.target itself, so it
/// answers even when something else keeps multi-user.target from being reached.
const DROPIN: &str = "[Unit]\nWants=larder-test.service\n";

const UNIT: &str = "\
[Unit]
Description=Runs the commands of the test harness
StartLimitIntervalSec=0

[Service]
ImportCredential=larder.test-agent
ExecStart=/bin/sh %d/larder.test-agent
Restart=always
RestartSec=1
TimeoutStopSec=1
";

/// The credentials that bring the agent into the guest.
pub(crate) fn credentials() -> [(String, String); 3] {
    [
        ("systemd.extra-unit.larder-test.service".into(), UNIT.into()),
        ("systemd.unit-dropin.multi-user.target".into(), DROPIN.into()),
        ("larder.test-agent".into(), AGENT.into()),
    ]
}

/// What a command in the guest gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The shell's exit status.
    pub status: i32,
    /// Standard output and error, in the order they were written.
    pub text: String,
}

impl Output {
    /// Whether the status was 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

/// The host's end of the channel.
#[derive(Debug)]
pub(crate) struct Guest {
    stream: UnixStream,
    received: Vec<u8>,
    next_id: u32,
    /// The boot id that the agent last greeted with.
    pub(crate) boot_id: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Hello(String),
    Answer(u32, Output),
}

impl Guest {
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_millis(100))).map_err(Error::io("preparing the guest channel"))?;
        Ok(Self { stream, received: Vec::new(), next_id: 0, boot_id: None })
    }

    /// Where QEMU listens for us.
    pub(crate) fn socket(folder: &Path) -> PathBuf {
        folder.join("guest.sock")
    }

    /// Hands a shell command to the agent.
    pub(crate) fn send(&mut self, command: &str) -> Result<u32> {
        self.next_id += 1;
        let line = format!("{} {}\n", self.next_id, BASE64_STANDARD.encode(command));
        self.stream.write_all(line.as_bytes()).map_err(Error::io("writing to the guest channel"))?;
        Ok(self.next_id)
    }

    /// The answer to the command `id`, if it is there; waits a moment for it.
    pub(crate) fn answer(&mut self, id: u32) -> Result<Option<Output>> {
        while let Some(line) = self.line()? {
            match line {
                Line::Answer(answered, output) if answered == id => return Ok(Some(output)),
                // An answer that came after its asker had given up.
                Line::Answer(..) => {}
                Line::Hello(boot_id) => self.boot_id = Some(boot_id),
            }
        }
        Ok(None)
    }

    /// The boot id of an agent that greeted and is not the one called `old`.
    pub(crate) fn hello(&mut self, old: Option<&str>) -> Result<Option<String>> {
        while let Some(line) = self.line()? {
            if let Line::Hello(boot_id) = line {
                self.boot_id = Some(boot_id);
            }
        }
        Ok(self.boot_id.clone().filter(|boot_id| Some(boot_id.as_str()) != old))
    }

    fn line(&mut self) -> Result<Option<Line>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                if let Some(line) = parse(&line)? {
                    return Ok(Some(line));
                }
                continue;
            }
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                // QEMU has gone; whoever waits notices that by its exit status.
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                // A read that waits is also interrupted when this process is stopped and goes on (signal(7)).
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    return Ok(None);
                }
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset) => {
                    return Ok(None);
                }
                Err(error) => return Err(Error::io("reading from the guest channel")(error)),
            }
        }
    }
}

/// `None` for an empty line, and for the rest of an answer that a reset cut off: it ends where the next hello begins.
fn parse(line: &[u8]) -> Result<Option<Line>> {
    let line = String::from_utf8_lossy(line);
    let nonsense = || Error::Protocol(line.chars().take(200).collect());
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [] => Ok(None),
        ["hello", boot_id] => Ok(Some(Line::Hello(boot_id.to_owned()))),
        [id, status, ref output @ ..] if output.len() <= 1 => {
            let Ok(bytes) = BASE64_STANDARD.decode(output.first().copied().unwrap_or_default()) else {
                return Ok(None);
            };
            let id = id.parse().map_err(|_| nonsense())?;
            let status = status.parse().map_err(|_| nonsense())?;
            Ok(Some(Line::Answer(id, Output { status, text: String::from_utf8_lossy(&bytes).into_owned() })))
        }
        _ => Err(nonsense()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent itself, on a pseudo port: a fifo pair would need a guest; the loop only needs descriptors.
    fn answer_of_agent(line: &str) -> Option<Line> {
        let body = AGENT.lines().skip_while(|line| !line.starts_with("while")).collect::<Vec<_>>().join("\n");
        let folder = tempfile::tempdir().expect("folder");
        let run = folder.path().display().to_string();
        let script = format!(
            "exec 3>&1; exec 4<&0; {}",
            body.replace("/run/", &format!("{run}/")).replace("<&3; do", "<&4; do")
        );
        let input = folder.path().join("input");
        fs_err::write(&input, line).expect("writes");
        let stdin = std::fs::File::open(input).expect("opens");
        let output = std::process::Command::new("sh").args(["-c", &script]).stdin(stdin).output().expect("runs");
        parse(&output.stdout).expect("parses")
    }

    #[test]
    fn the_agent_gives_status_and_both_outputs() {
        let line = format!("7 {}\n", BASE64_STANDARD.encode("echo out; echo 'error ü' >&2; exit 3"));
        let expected = Output { status: 3, text: "out\nerror ü\n".into() };
        assert_eq!(answer_of_agent(&line), Some(Line::Answer(7, expected)));
    }

    #[test]
    fn a_silent_command_is_an_answer_too() {
        let line = format!("8 {}\n", BASE64_STANDARD.encode("true"));
        assert_eq!(answer_of_agent(&line), Some(Line::Answer(8, Output { status: 0, text: String::new() })));
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_one() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let mut guest = Guest::new(ours).expect("guest");
        let (first, second) = (guest.send("sleep 99").expect("sends"), guest.send("id").expect("sends"));
        writeln!(theirs, "\nhello abc\n{first} 0 bGF0ZQ==\n{second} 1 ").expect("answers");
        assert_eq!(guest.answer(second).expect("reads"), Some(Output { status: 1, text: String::new() }));
        assert_eq!(guest.boot_id.as_deref(), Some("abc"));
        assert_eq!(guest.hello(Some("abc")).expect("reads"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_line_from_the_guest_is_a_panic(line in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = parse(&line);
        }
    }
}
