//! A CSV file: gzip or not, with a header, read record by record.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};
use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

use super::ImportError;
use super::read_ahead::ReadAhead;
use super::reject::{Fault, Reject};

/// An open file behind its header.
pub(super) struct Table {
    path: PathBuf,
    reader: Reader<Box<dyn Read>>,
    header: Vec<String>,
}

const BUFFER_BYTES: usize = 128 * 1024;
/// The first bytes of whatever gzip wrote.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl Table {
    /// Opens a file and reads its header; `bar` shows the bytes read of it.
    pub(super) fn open(path: &Path, delimiter: u8, bar: &ProgressBar) -> Result<Self, ImportError> {
        let failed = |source| ImportError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let mut file = BufReader::with_capacity(BUFFER_BYTES, bar.wrap_read(file));
        let text: Box<dyn Read> = if file.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC) {
            Box::new(ReadAhead::new(MultiGzDecoder::new(file)).map_err(failed)?)
        } else {
            Box::new(file)
        };
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .buffer_capacity(BUFFER_BYTES)
            .flexible(true)
            .has_headers(false)
            // With a terminator that is one byte, and never missing at the end,
            // lines can be counted; the `\r` of a `\r\n` is trimmed with the field.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Box::new(text.chain(&b"\n"[..])) as Box<dyn Read>);
        let mut table = Self {
            path: path.to_owned(),
            reader,
            header: Vec::new(),
        };
        let mut record = ByteRecord::new();
        if !table.read(&mut record)? {
            return Err(ImportError::Empty { path: table.path });
        }
        table.header = (0..record.len())
            .map(|i| String::from_utf8_lossy(field(&record, i)).into_owned())
            .collect();
        Ok(table)
    }

    /// The names of the columns.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// The place of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize, ImportError> {
        let mut places = (0..self.header.len()).filter(|i| self.header[*i] == name);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(ImportError::TwiceColumn {
                column: name.to_owned(),
            }),
            (None, _) => Err(ImportError::NoColumn {
                column: name.to_owned(),
                header: self.header.clone(),
            }),
        }
    }

    /// Reads the next record that is not blank; false at the file's end.
    pub(super) fn read(&mut self, record: &mut ByteRecord) -> Result<bool, ImportError> {
        loop {
            let more = self
                .reader
                .read_byte_record(record)
                .map_err(|error| ImportError::File {
                    path: self.path.clone(),
                    source: io::Error::from(error),
                })?;
            if !more || record.len() > 1 || !field(record, 0).is_empty() {
                return Ok(more);
            }
        }
    }

    /// A fault of a record with as many fields as the header does not have.
    pub(super) fn check_length(&self, record: &ByteRecord) -> Result<(), Fault> {
        if record.len() == self.header.len() {
            return Ok(());
        }
        Err(Fault {
            column: None,
            reason: format!(
                "it has {} fields, the header has {}",
                record.len(),
                self.header.len()
            ),
        })
    }

    /// The rejection of the record that was read last.
    pub(super) fn reject(&self, record: &ByteRecord, fault: Fault) -> Reject {
        // The reader stands at the beginning of the next line; a quoted field
        // may have taken several.
        let within = record.as_slice().iter().filter(|byte| **byte == b'\n');
        Reject {
            line: self.reader.position().line() - 1 - within.count() as u64,
            column: fault.column.map(|i| self.header[i].clone()),
            reason: fault.reason,
        }
    }
}

/// A field without the blanks around it; empty if there is none.
pub(super) fn field(record: &ByteRecord, place: usize) -> &[u8] {
    record.get(place).unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn open(bytes: &[u8]) -> Result<Table, ImportError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Table::open(file.path(), b',', &ProgressBar::hidden())
    }

    /// Every record behind the header, with its line.
    fn records(bytes: &[u8]) -> Vec<(u64, String)> {
        let mut table = open(bytes).unwrap();
        assert_eq!(table.header(), ["a", "b"]);
        let mut record = ByteRecord::new();
        let mut found = Vec::new();
        while table.read(&mut record).unwrap() {
            let reject = table.reject(&record, Fault::at(0, ""));
            assert_eq!(reject.column.as_deref(), Some("a"));
            found.push((
                reject.line,
                String::from_utf8_lossy(field(&record, 0)).into_owned(),
            ));
        }
        found
    }

    fn check(bytes: &[u8], expect: &[(u64, &str)]) {
        let expect: Vec<_> = expect
            .iter()
            .map(|(line, text)| (*line, (*text).to_owned()))
            .collect();
        assert_eq!(records(bytes), expect);
    }

    #[test]
    fn counts_lines_however_they_end() {
        let expect = [(2, "1"), (3, "3")];
        check(b"a,b\n1,2\n3,4\n", &expect);
        check(b"a,b\n1,2\n3,4", &expect);
        check(b"a,b\r\n1,2\r\n3,4\r\n", &expect);
        check(b"a,\"b\"\r\n1,\"2\"\r\n\"3\",4", &expect);
        check(b" a , b \n 1,2\n3 ,4\n", &expect);
        check(b"a,b\n\n1,2\n\n\n3,4\n\n", &[(3, "1"), (6, "3")]);
        check(b"a,b\r\n\r\n1,2\r\n\r\n3,4\r\n\r\n", &[(3, "1"), (5, "3")]);
        check(b"a,b\n\"x\ny\",2\n3,4\n", &[(2, "x\ny"), (4, "3")]);
    }

    #[test]
    fn takes_gzip_by_its_bytes_and_skips_a_byte_order_mark() {
        let text = b"\xef\xbb\xbfa,b\n1,2\n";
        check(text, &[(2, "1")]);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text).unwrap();
        let mut bytes = gzip.finish().unwrap();
        check(&bytes, &[(2, "1")]);
        // gzip files joined are one, as `cat` joins them.
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"3,4\n").unwrap();
        bytes.extend(gzip.finish().unwrap());
        check(&bytes, &[(2, "1"), (3, "3")]);

        bytes.truncate(bytes.len() - 5);
        let mut table = open(&bytes).unwrap();
        let mut record = ByteRecord::new();
        let outcome = std::iter::repeat_with(|| table.read(&mut record))
            .find(|read| !matches!(read, Ok(true)));
        assert!(matches!(outcome, Some(Err(ImportError::File { .. }))));
    }

    #[test]
    fn a_file_has_a_header() {
        assert!(matches!(open(b""), Err(ImportError::Empty { .. })));
        assert!(matches!(open(b"\n\r\n"), Err(ImportError::Empty { .. })));
        let nowhere = Path::new("no such file.csv");
        let missing = Table::open(nowhere, b',', &ProgressBar::hidden());
        assert!(matches!(missing, Err(ImportError::File { .. })));
    }

    #[test]
    fn finds_columns_by_name() {
        let table = open(b"a,b,b\n").unwrap();
        assert_eq!(table.column("a").unwrap(), 0);
        assert!(matches!(
            table.column("b"),
            Err(ImportError::TwiceColumn { .. })
        ));
        let missing = table.column("c").unwrap_err().to_string();
        assert!(
            missing.contains("no column `c`; the header has `a`, `b`, `b`"),
            "{missing}"
        );
    }
}
