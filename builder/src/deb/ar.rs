//! The `ar` container of a .deb: `!<arch>`, then members with a 60-byte text header each (ar(5), deb(5)).
//!
//! Strict on purpose: a .deb has one shape, and whatever deviates is damaged or hostile.

use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;
const HEADER_END: &[u8] = b"`\n";

/// The container is damaged, at this byte of the file.
#[derive(Debug, thiserror::Error)]
#[error("damaged at byte {offset}: {what}")]
pub struct ArError {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// Name and size of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `control.tar.xz`
    pub name: String,
    /// Bytes of content.
    pub size: u64,
}

/// Reads members one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    offset: u64,
    /// Bytes of the current member that nobody has read yet.
    left: u64,
    /// Members start at even offsets.
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// Checks the file's first bytes.
    pub fn new(source: R) -> io::Result<Self> {
        let mut reader = Self { source, offset: 0, left: 0, padding: 0 };
        let mut magic = [0; MAGIC.len()];
        if reader.fill(&mut magic)? < magic.len() || magic != *MAGIC {
            return Err(damaged(0, "not a Debian package"));
        }
        Ok(reader)
    }

    /// The next member, `None` at the end of the file. What is unread of the one before is skipped;
    /// the content of this one is what the reader yields until the next call.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        io::copy(self, &mut io::sink())?;
        let mut padding = [b'\n'];
        if self.padding == 1 && self.fill(&mut padding)? == 1 && padding != [b'\n'] {
            return Err(damaged(self.offset - 1, "a member is not padded by a newline"));
        }
        let start = self.offset;
        let mut header = [0; HEADER];
        match self.fill(&mut header)? {
            0 => return Ok(None),
            HEADER => {}
            _ => {
                return Err(damaged(start, "the file ends within a member's header, or has something after its end"));
            }
        }
        let member = parse_header(&header).map_err(|what| damaged(start, what))?;
        self.left = member.size;
        self.padding = member.size % 2;
        Ok(Some(member))
    }

    /// Reads until the buffer is full or the file ends.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len() {
            match self.source.read(&mut buffer[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.offset += count as u64;
        Ok(count)
    }
}

/// The content of the current member.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(damaged(self.offset, format!("the file ends {} bytes before its member does", self.left)));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Name (16), mtime (12), uid (6), gid (6), mode (8), size (10), end (2).
fn parse_header(header: &[u8; HEADER]) -> Result<Member, String> {
    if &header[58..] != HEADER_END {
        return Err("not a member's header".to_owned());
    }
    let field =
        |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(|text| text.trim_end_matches(' '));
    // GNU ar ends names with a slash, dpkg-deb does not.
    let name = field(0..16).ok().map(|name| name.strip_suffix('/').unwrap_or(name));
    let name = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
    let size = field(48..58)
        .ok()
        .filter(|size| size.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|size| size.parse().ok());
    match (name, size) {
        (Some(name), Some(size)) => Ok(Member { name: name.to_owned(), size }),
        (None, _) => Err("a member has no proper name".to_owned()),
        (_, None) => Err("a member has no proper size".to_owned()),
    }
}

/// As an [`io::Error`], because it surfaces through the decompressor and the tar reader.
fn damaged(offset: u64, what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, ArError { offset, what: what.into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deb::tests::build::ar;

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut reader = Reader::new(bytes).map_err(|error| error.to_string())?;
        let mut members = Vec::new();
        while let Some(member) = reader.next_member().map_err(|error| error.to_string())? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map_err(|error| error.to_string())?;
            members.push((member.name, content));
        }
        Ok(members)
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let good = ar(&[("debian-binary", b"2.0\n"), ("odd", b"123")]);
        let cases = [
            (&b"!<arch"[..], "damaged at byte 0: not a Debian package"),
            (&good[..40], "damaged at byte 8: the file ends within a member's header, or has something after its end"),
            (&good[..70], "damaged at byte 70: the file ends 2 bytes before its member does"),
            (
                &[&good[..], b"garbage"].concat(),
                "damaged at byte 136: the file ends within a member's header, or has something after its end",
            ),
            (&[&good[..], &[b'x'; 60]].concat(), "damaged at byte 136: not a member's header"),
        ];
        for (bytes, error) in cases {
            assert_eq!(read(bytes).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn members_round_trip(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let members: Vec<_> = contents.iter().enumerate().map(|(n, content)| (format!("member-{n}"), content.clone())).collect();
            let list: Vec<_> = members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
            prop_assert_eq!(read(&ar(&list)), Ok(members));
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[MAGIC, &bytes[..]].concat());
        }
    }
}
