//! TFRecord: records one after the other, each with its length before and checksums of both.

use std::io::{ErrorKind, Read};

use bytes::Bytes;

use crate::error::{Error, Result};

/// Bytes of a record's length and of the checksum of that.
const HEADER_BYTES: usize = 12;
/// Bytes of the checksum behind a record.
const FOOTER_BYTES: usize = 4;
/// Added to rotated checksums, so that those of data that holds checksums are not trivial.
const MASK: u32 = 0xa282_ead8;

/// The checksum as it is stored: CRC-32C, rotated by 15 bits, plus [`MASK`].
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

/// Bytes that a record of so many takes in a file.
pub(super) fn framed_bytes(record: usize) -> u64 {
    (HEADER_BYTES + record + FOOTER_BYTES) as u64
}

/// Appends a record to `into`.
pub(super) fn frame(record: &[u8], into: &mut Vec<u8>) {
    let length = (record.len() as u64).to_le_bytes();
    into.extend_from_slice(&length);
    into.extend_from_slice(&checksum(&length).to_le_bytes());
    into.extend_from_slice(record);
    into.extend_from_slice(&checksum(record).to_le_bytes());
}

/// The records of a file in turn.
#[derive(Debug)]
pub struct Records<R> {
    reader: R,
    /// Bytes that one record may have.
    bytes_max: u64,
    /// Where the next record begins.
    offset: u64,
}

impl<R: Read> Records<R> {
    /// Those that `reader` gives.
    pub fn new(reader: R, bytes_max: u64) -> Self {
        Self { reader, bytes_max, offset: 0 }
    }

    /// Where the next record begins: the bytes of those before it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; `None` at the end. For its bytes `take` is asked before they are read.
    ///
    /// # Errors
    /// `DATA_LOSS` with the offset of the record that is cut off or damaged, `RESOURCE_EXHAUSTED` for one that is too long,
    /// those of reading and of `take`.
    pub fn next(&mut self, take: impl FnOnce(u64) -> Result<()>) -> Result<Option<Bytes>> {
        let offset = self.offset;
        let damaged = |what: &str| Error::data_loss(format!("{what} record at byte {offset}"));
        let mut header = [0; HEADER_BYTES];
        match self.fill(&mut header)? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            _ => return Err(damaged("truncated")),
        }
        let (length, sum) = header.split_at(8);
        if checksum(length).to_le_bytes() != *sum {
            return Err(damaged("corrupted"));
        }
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        if length > self.bytes_max {
            let what = format!("the record at byte {offset} has {length} bytes, at most {} may be", self.bytes_max);
            return Err(Error::resource_exhausted(what));
        }
        take(length)?;
        // Grows with what is there: a length is no promise.
        let mut record = Vec::new();
        let whole = length + FOOTER_BYTES as u64;
        let read = self.reader.by_ref().take(whole).read_to_end(&mut record)? as u64;
        if read < whole {
            return Err(damaged("truncated"));
        }
        let sum = record.split_off(length as usize);
        if checksum(&record).to_le_bytes() != *sum {
            return Err(damaged("corrupted"));
        }
        self.offset += framed_bytes(record.len());
        Ok(Some(record.into()))
    }

    /// Reads into all of `buffer`, or as far as there is something.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn framed(records: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        records.iter().for_each(|record| frame(record, &mut file));
        file
    }

    fn read(file: &[u8], bytes_max: u64) -> Result<Vec<Bytes>> {
        let mut records = Records::new(file, bytes_max);
        std::iter::from_fn(|| records.next(|_| Ok(())).transpose()).collect()
    }

    #[test]
    fn records_read_as_they_were_written() {
        let written: [&[u8]; 3] = [b"one", b"", &[7; 1000]];
        let file = framed(&written);
        assert_eq!(file.len() as u64, written.iter().map(|r| framed_bytes(r.len())).sum::<u64>());
        assert_eq!(read(&file, 1000).expect("three records"), written);
        assert!(read(&[], 0).expect("none").is_empty());
        // As every file of TensorFlow's events begins.
        let known = [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 9];
        assert!(framed(&[&[9; 24]]).starts_with(&known));
    }

    #[test]
    fn cuts_and_changes_are_told_with_their_place() {
        let file = framed(&[b"first", b"second"]);
        let second = framed_bytes(5) as usize;
        for length in 1..file.len() {
            let outcome = read(&file[..length], 100);
            if length == second {
                assert_eq!(outcome.expect("whole").len(), 1);
                continue;
            }
            let (error, start) = (outcome.expect_err("cut"), if length < second { 0 } else { second });
            assert_eq!(
                (error.code(), error.message().to_owned()),
                (Code::DataLoss, format!("truncated record at byte {start}"))
            );
        }
        for place in 0..file.len() {
            let mut changed = file.clone();
            changed[place] ^= 0x10;
            let error = read(&changed, 100).expect_err("changed");
            assert!(error.message().starts_with("corrupted record at byte "), "{error}");
        }
    }

    #[test]
    fn long_records_are_refused_before_they_are_read() {
        let file = framed(&[&[0; 100]]);
        assert_eq!(read(&file, 99).expect_err("too long").code(), Code::ResourceExhausted);
        let mut records = Records::new(file.as_slice(), 100);
        let refused = records.next(|bytes| Err(Error::resource_exhausted(format!("{bytes} bytes"))));
        assert_eq!(refused.expect_err("refused").message(), "100 bytes");
    }
}
