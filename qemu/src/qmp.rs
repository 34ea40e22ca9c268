//! A small client of QEMU's machine protocol: the dozen commands that larder needs, typed.
//!
//! Protocol: <https://www.qemu.org/docs/master/interop/qmp-spec.html>. One JSON object a line; events come in between.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// QEMU answers at once; only a wedged one does not.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
#[serde(tag = "execute", content = "arguments", rename_all = "snake_case")]
pub(crate) enum Command {
    QmpCapabilities,
    Quit,
    SystemPowerdown,
    SystemReset,
    Stop,
    Cont,
    #[serde(rename = "query-status")]
    QueryStatus,
    DeviceDel {
        id: String,
    },
    /// The arguments are the device's properties, as in `-device`.
    DeviceAdd(Value),
}

/// What QEMU does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The guest runs.
    Running,
    /// Stopped by [`Qmp::stop`].
    Paused,
    /// The guest has shut down.
    Shutdown,
    /// The guest reported its panic.
    GuestPanicked,
    /// The accelerator failed.
    InternalError,
    /// A state of a newer QEMU, or one that does not matter here.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    status: RunState,
}

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    events: VecDeque<(String, Value)>,
}

impl Qmp {
    /// Takes QEMU's greeting and leaves negotiation mode.
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(Error::io("preparing QMP"))?;
        let mut qmp = Self { reader: BufReader::new(stream), events: VecDeque::new() };
        qmp.read_line()?;
        qmp.execute(&Command::QmpCapabilities)?;
        Ok(qmp)
    }

    /// Ends QEMU in an orderly way: it writes out what it holds. The guest notices nothing any more.
    pub fn quit(&mut self) -> Result<()> {
        self.execute(&Command::Quit).map(drop)
    }

    /// Presses the power button.
    pub fn system_powerdown(&mut self) -> Result<()> {
        self.execute(&Command::SystemPowerdown).map(drop)
    }

    /// Presses the reset button.
    pub fn system_reset(&mut self) -> Result<()> {
        self.execute(&Command::SystemReset).map(drop)
    }

    /// Freezes the guest.
    pub fn stop(&mut self) -> Result<()> {
        self.execute(&Command::Stop).map(drop)
    }

    /// Lets it go on.
    pub fn cont(&mut self) -> Result<()> {
        self.execute(&Command::Cont).map(drop)
    }

    /// What QEMU does at the moment.
    pub fn status(&mut self) -> Result<RunState> {
        let value = self.execute(&Command::QueryStatus)?;
        let text = value.to_string();
        serde_json::from_value::<Status>(value).map(|status| status.status).map_err(|_| Error::Protocol(text))
    }

    /// Adds a device; the properties are those of `-device`.
    pub(crate) fn device_add(&mut self, properties: Value) -> Result<()> {
        self.execute(&Command::DeviceAdd(properties)).map(drop)
    }

    /// Asks for a device to be pulled out and waits until it is gone.
    pub(crate) fn device_del(&mut self, id: &str, timeout: Duration) -> Result<()> {
        self.execute(&Command::DeviceDel { id: id.to_owned() })?;
        self.wait_event("DEVICE_DELETED", timeout, |data| data["device"] == id)
    }

    /// Waits until QEMU has really ended, which its socket tells even where QEMU is no direct child of ours.
    pub(crate) fn wait_end(mut self) {
        let _ = std::io::copy(&mut self.reader.by_ref().take(1 << 20), &mut std::io::sink());
    }

    fn wait_event(&mut self, name: &str, timeout: Duration, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            while let Some((event, data)) = self.events.pop_front() {
                if event == name && wanted(&data) {
                    return Ok(());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let waiting = || Error::io(format!("waiting for QEMU's event {name}"));
            self.reader.get_ref().set_read_timeout(Some(left)).map_err(waiting())?;
            let message = self.read_message();
            self.reader.get_ref().set_read_timeout(Some(PATIENCE)).map_err(waiting())?;
            self.keep_event(message?);
        }
    }

    fn execute(&mut self, command: &Command) -> Result<Value> {
        let line = serde_json::to_string(command).map_err(|error| Error::Protocol(error.to_string()))?;
        writeln!(self.reader.get_mut(), "{line}").map_err(Error::io(format!("sending {line} to QEMU")))?;
        loop {
            let mut message = self.read_message()?;
            if let Some(value) = message.value.take() {
                return Ok(value);
            }
            if let Some(Refusal { class, desc }) = message.error.take() {
                return Err(Error::Qmp { command: line, class, desc });
            }
            self.keep_event(message);
        }
    }

    fn keep_event(&mut self, message: Message) {
        if let Some(event) = message.event {
            self.events.push_back((event, message.data));
        }
    }

    fn read_message(&mut self) -> Result<Message> {
        let line = self.read_line()?;
        serde_json::from_str(&line).map_err(|_| Error::Protocol(line))
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).map_err(Error::io("reading from QMP"))? {
            0 => Err(Error::io("reading from QMP")(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that greets and then gives prepared answers, whatever it is asked.
    fn qemu(answers: &'static [&'static str]) -> Qmp {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().expect("clones"));
            let mut writer = theirs;
            writeln!(writer, r#"{{"QMP": {{"version": {{}}, "capabilities": ["oob"]}}}}"#).expect("greets");
            let mut line = String::new();
            for answer in [r#"{"return": {}}"#].iter().chain(answers) {
                line.clear();
                reader.read_line(&mut line).expect("reads");
                writeln!(writer, "{answer}").expect("answers");
            }
        });
        Qmp::new(ours).expect("negotiates")
    }

    #[test]
    fn commands_look_as_the_protocol_asks() {
        let show = |command| serde_json::to_string(&command).expect("serialises");
        insta::assert_snapshot!(show(Command::SystemPowerdown), @r#"{"execute":"system_powerdown"}"#);
        insta::assert_snapshot!(show(Command::QueryStatus), @r#"{"execute":"query-status"}"#);
        insta::assert_snapshot!(show(Command::DeviceDel { id: "disk0".into() }), @r#"{"execute":"device_del","arguments":{"id":"disk0"}}"#);
    }

    #[test]
    fn a_state_of_a_newer_qemu_is_tolerated() {
        let mut qmp =
            qemu(&[r#"{"return": {"status": "running", "running": true}}"#, r#"{"return": {"status": "levitating"}}"#]);
        assert_eq!(qmp.status().expect("answers"), RunState::Running);
        assert_eq!(qmp.status().expect("answers"), RunState::Other);
    }

    #[test]
    fn a_refusal_names_command_and_reason() {
        let mut qmp = qemu(&[r#"{"error": {"class": "DeviceNotFound", "desc": "Device 'disk9' not found"}}"#]);
        let error = qmp.device_del("disk9", Duration::from_secs(1)).expect_err("is refused");
        insta::assert_snapshot!(error, @r#"QEMU refused {"execute":"device_del","arguments":{"id":"disk9"}}: DeviceNotFound: Device 'disk9' not found"#);
    }

    #[test]
    fn a_pulled_device_is_waited_for_by_name() {
        let mut qmp = qemu(&[
            "{\"event\": \"DEVICE_DELETED\", \"data\": {\"path\": \"/machine/peripheral/port1\"}}\n{\"return\": {}}\n{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"disk1\"}}",
        ]);
        qmp.device_del("disk1", Duration::from_secs(5)).expect("is gone");
    }
}
