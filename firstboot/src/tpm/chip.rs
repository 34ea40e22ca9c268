//! Four commands of the TPM, by the kernel's resource manager `/dev/tpmrm0`: a parent key, and a secret below it whose
//! use needs an authorization value, which the chip protects from guessing (TPM 2.0 library, part 1, 19.8).
//!
//! The parent is made anew each time from the chip's storage seed: the same template gives the same key (part 1, 15), until
//! the TPM is cleared. Numbers are of part 2, layouts of part 3. Authorization goes to the chip in clear; the boxes that
//! larder is for have it inside their CPU.

use std::fs::File;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Refused, Tpm};
use crate::key::Bytes;

/// TPM_ST_SESSIONS: a command with an authorization.
const WITH_AUTHORIZATION: u16 = 0x8002;
const CREATE_PRIMARY: u32 = 0x131;
const CREATE: u32 = 0x153;
const LOAD: u32 = 0x157;
const UNSEAL: u32 = 0x15e;
/// TPM_RH_OWNER and TPM_RS_PW.
const OWNER: u32 = 0x4000_0001;
const PASSWORD: u32 = 0x4000_0009;
/// Tag, size, code.
const HEADER: usize = 10;
/// No answer is longer (TPM2_MAX_RESPONSE_SIZE).
const MAX_ANSWER: usize = 4096;

/// TPM_RC of format 1 without the number of what they are about, and of warnings.
const RC_INTEGRITY: u32 = 0x09f;
/// Nothing has this handle: the chip was emptied of what lay there.
const RC_HANDLE: u32 = 0x08b;
const RC_AUTH_FAIL: u32 = 0x08e;
const RC_BAD_AUTH: u32 = 0x0a2;
const RC_LOCKOUT: u32 = 0x921;

/// TPMT_PUBLIC of a storage key: ECC, SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted,
/// decrypt; no policy; AES-128-CFB, no scheme, NIST P-256, no KDF; nothing unique.
const PARENT: &[u8] = b"\x00\x23\x00\x0b\x00\x03\x04\x72\x00\x00\
    \x00\x06\x00\x80\x00\x43\x00\x10\x00\x03\x00\x10\x00\x00\x00\x00";
/// TPMT_PUBLIC of a sealed secret: KEYEDHASH, SHA-256; fixedTPM, fixedParent, userWithAuth, and not noDA: wrong
/// authorizations count; no policy, no scheme, nothing unique.
const SEALED: &[u8] = b"\x00\x08\x00\x0b\x00\x00\x00\x52\x00\x00\x00\x10\x00\x00";

/// A sealed secret, as the chip gave it out; of no use to another chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Object {
    private: Bytes,
    public: Bytes,
}

/// An open TPM. What was loaded goes when it is closed.
pub(super) struct Chip<D = File>(D);

impl Chip {
    /// Opens it.
    pub(super) fn open(tpm: &Tpm) -> Result<Self, Refused> {
        let open = File::options().read(true).write(true).open(tpm.root().join("dev/tpmrm0"));
        open.map(Self).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Refused::Missing,
            _ => Refused::Failed(error.to_string()),
        })
    }
}

impl<D: std::io::Read + std::io::Write> Chip<D> {
    /// Seals at most 128 bytes for whoever knows `authorization`.
    pub(super) fn seal(&mut self, authorization: &[u8], secret: &[u8]) -> Result<Object, Refused> {
        let parent = self.parent()?;
        let mut sensitive = Message::default();
        sensitive.sized(authorization).sized(secret);
        let mut parameters = Message::default();
        // Nothing to add to its creation data, no registers in it.
        parameters.sized(&sensitive.0).sized(SEALED).sized(b"").u32(0);
        let answer = self.command(CREATE, parent, b"", &parameters)?;
        let mut answer = Answer(parameters_of(&answer)?);
        let (private, public) = (answer.sized()?.to_vec(), answer.sized()?.to_vec());
        Ok(Object { private: private.into(), public: public.into() })
    }

    /// Gives the secret back.
    pub(super) fn unseal(&mut self, object: &Object, authorization: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let parent = self.parent()?;
        let mut parameters = Message::default();
        parameters.sized(object.private.as_slice()).sized(object.public.as_slice());
        let loaded = Answer(&self.command(LOAD, parent, b"", &parameters)?).u32()?;
        let answer = self.command(UNSEAL, loaded, authorization, &Message::default())?;
        Ok(Zeroizing::new(Answer(parameters_of(&answer)?).sized_end()?.to_vec()))
    }

    fn parent(&mut self) -> Result<u32, Refused> {
        let mut parameters = Message::default();
        // No authorization, no data of our own.
        parameters.sized(&[0; 4]).sized(PARENT).sized(b"").u32(0);
        Answer(&self.command(CREATE_PRIMARY, OWNER, b"", &parameters)?).u32()
    }

    /// What comes after the header of the answer.
    fn command(
        &mut self,
        code: u32,
        handle: u32,
        authorization: &[u8],
        parameters: &Message,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let mut session = Message::default();
        // No nonce, no attributes.
        session.u32(PASSWORD).sized(b"").bytes(&[0]).sized(authorization);
        let mut body = Message::default();
        body.u32(handle).u32(session.0.len() as u32).bytes(&session.0).bytes(&parameters.0);
        let mut command = Message::default();
        command.bytes(&WITH_AUTHORIZATION.to_be_bytes()).u32((HEADER + body.0.len()) as u32).u32(code).bytes(&body.0);
        let failed = |error: std::io::Error| Refused::Failed(error.to_string());
        self.0.write_all(&command.0).map_err(failed)?;
        let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
        let length = self.0.read(&mut answer).map_err(failed)?;
        answer.truncate(length);
        let mut header = Answer(&answer);
        let (_, size, result) = (header.take(2)?, header.u32()?, header.u32()?);
        match result {
            0 if size as usize == length => Ok(Zeroizing::new(header.0.to_vec())),
            0 => Err(nonsense()),
            result => Err(refusal(code, result)),
        }
    }
}

/// The parameters of an answer without handles: their size comes first, the answer's own authorization last.
fn parameters_of(answer: &[u8]) -> Result<&[u8], Refused> {
    let mut answer = Answer(answer);
    let size = answer.u32()? as usize;
    answer.take(size)
}

fn refusal(command: u32, result: u32) -> Refused {
    match kind(result) {
        RC_AUTH_FAIL | RC_BAD_AUTH if command == UNSEAL => Refused::WrongPin,
        _ => meaning(result).unwrap_or_else(|| Refused::Failed(format!("command {command:#x} gave {result:#x}"))),
    }
}

/// What a code means whichever command gave it.
pub(super) fn meaning(result: u32) -> Option<Refused> {
    match kind(result) {
        RC_LOCKOUT => Some(Refused::LockedOut),
        RC_INTEGRITY | RC_HANDLE => Some(Refused::Replaced),
        _ => None,
    }
}

/// Format 1 has bit 7 set, and says in other bits which handle, session or parameter it is about.
fn kind(result: u32) -> u32 {
    if result & 0x80 == 0 { result } else { result & 0xbf }
}

fn nonsense() -> Refused {
    Refused::Failed("it gave an answer that makes no sense".to_owned())
}

/// Bytes for the chip: numbers are big-endian.
#[derive(Default)]
struct Message(Zeroizing<Vec<u8>>);

impl Message {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// With its length in two bytes before it (TPM2B).
    fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes(&(bytes.len() as u16).to_be_bytes()).bytes(bytes)
    }
}

/// Bytes from the chip.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(nonsense)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| nonsense())
    }

    fn sized(&mut self) -> Result<&'a [u8], Refused> {
        let size = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([size[0], size[1]])))
    }

    /// The last one.
    fn sized_end(&mut self) -> Result<&'a [u8], Refused> {
        let last = self.sized()?;
        if self.0.is_empty() { Ok(last) } else { Err(nonsense()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use proptest::prelude::*;

    use super::*;

    /// Answers as recorded, and keeps what it was asked.
    #[derive(Default)]
    struct Script {
        answers: VecDeque<Vec<u8>>,
        asked: Vec<Vec<u8>>,
    }

    impl io::Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let answer = self.answers.pop_front().unwrap_or_default();
            buffer[..answer.len()].copy_from_slice(&answer);
            Ok(answer.len())
        }
    }

    impl io::Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer(result: u32, body: &[u8]) -> Vec<u8> {
        let mut answer = Message::default();
        answer.bytes(&[0x80, 2]).u32((HEADER + body.len()) as u32).u32(result).bytes(body);
        answer.0.to_vec()
    }

    fn chip(answers: &[(u32, &[u8])]) -> Chip<Script> {
        let answers = answers.iter().map(|(result, body)| answer(*result, body)).collect();
        Chip(Script { answers, asked: Vec::new() })
    }

    const HANDLE: (u32, &[u8]) = (0, b"\x80\xff\xff\xff");

    fn object() -> Object {
        Object { private: b"private".to_vec().into(), public: b"public".to_vec().into() }
    }

    #[test]
    fn a_secret_goes_in_and_comes_out() {
        let created = b"\x00\x00\x00\x11\x00\x07private\x00\x06public\x00\x00\x00\x00\x00";
        let mut chip =
            chip(&[HANDLE, (0, created), HANDLE, HANDLE, (0, b"\x00\x00\x00\x08\x00\x06secret\x00\x00\x00\x00\x00")]);
        assert_eq!(chip.seal(b"1234", b"secret").unwrap(), object());
        assert_eq!(chip.unseal(&object(), b"1234").unwrap().as_slice(), b"secret");
        let asked = &chip.0.asked;
        for command in asked {
            assert_eq!(u32::from_be_bytes(command[2..6].try_into().unwrap()) as usize, command.len());
        }
        let codes: Vec<_> =
            asked.iter().map(|command| u32::from_be_bytes(command[6..10].try_into().unwrap())).collect();
        assert_eq!(codes, [CREATE_PRIMARY, CREATE, CREATE_PRIMARY, LOAD, UNSEAL]);
        assert_eq!(hex::encode(&asked[4]), "80020000001f0000015e80ffffff0000000d40000009000000000431323334");
        assert!(asked[1].windows(14).any(|bytes| bytes == b"\x00\x041234\x00\x06secret"));
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |result: u32| chip(&[HANDLE, HANDLE, (result, b"")]).unseal(&object(), b"1234").unwrap_err();
        assert_eq!(refused(0x98e), Refused::WrongPin);
        assert_eq!(refused(0x921), Refused::LockedOut);
        let mut cleared = chip(&[HANDLE, (0x1df, b"")]);
        assert_eq!(cleared.unseal(&object(), b"1234").unwrap_err(), Refused::Replaced);
        insta::assert_snapshot!(refused(0x101), @"the TPM does not answer as it should: command 0x15e gave 0x101");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(first: Vec<u8>, second: Vec<u8>, third: Vec<u8>) {
            let answers = [first, second, third].map(|bytes| answer(0, &bytes));
            let script = || Script { answers: answers.clone().into(), asked: Vec::new() };
            let _ = Chip(script()).seal(b"1234", b"secret");
            let _ = Chip(script()).unseal(&object(), b"1234");
            let raw = Script { answers: answers.map(|bytes| bytes[..bytes.len() / 2].to_vec()).into(), asked: Vec::new() };
            let _ = Chip(raw).unseal(&object(), b"1234");
        }
    }
}
