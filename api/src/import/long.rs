//! Files with a row per value.

use std::str::FromStr;

use csv::ByteRecord;
use domain::forecast::{Resolution, SeriesKey};
use jiff::Timestamp;
use rustc_hash::FxHashMap;
use time::OffsetDateTime;

use super::mwh::Decimal;
use super::reject::{Fault, Rejects};
use super::runs::{PlaceError, Runs};
use super::table::{Table, field};
use super::{ImportError, mwh, time_reader};

const ISSUED_AT: &str = "issued_at";

/// Reads a table to its end. A value that says no issue time was issued `now`.
/// Returns the rows left out.
pub(super) fn read(
    table: &mut Table,
    runs: &mut Runs,
    now: OffsetDateTime,
) -> Result<Rejects, ImportError> {
    let mut reader = LongReader::new(table, now)?;
    let mut rejects = Rejects::default();
    let mut record = ByteRecord::new();
    while table.read(&mut record)? {
        let read = table
            .check_length(&record)
            .and_then(|()| reader.read(&record, runs));
        if let Err(fault) = read {
            rejects.push(table.reject(&record, fault));
        }
    }
    Ok(rejects)
}

struct LongReader {
    unit: usize,
    provider: usize,
    resolution: usize,
    delivery_start: usize,
    mwh: usize,
    issued_at: Option<usize>,
    now: Timestamp,
    /// The series met so far, by the texts that name them.
    series: FxHashMap<Vec<u8>, (usize, Resolution)>,
    /// The texts that name the row's series, and those of the row before.
    named: Vec<u8>,
    before: Vec<u8>,
    current: Option<(usize, Resolution)>,
}

impl LongReader {
    fn new(table: &Table, now: OffsetDateTime) -> Result<Self, ImportError> {
        let reader = Self {
            unit: table.column("unit")?,
            provider: table.column("provider")?,
            resolution: table.column("resolution")?,
            delivery_start: table.column("delivery_start")?,
            mwh: table.column("mwh")?,
            issued_at: match table.header().iter().any(|name| name == ISSUED_AT) {
                true => Some(table.column(ISSUED_AT)?),
                false => None,
            },
            now: Timestamp::from_nanosecond(now.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX),
            series: FxHashMap::default(),
            named: Vec::new(),
            before: Vec::new(),
            current: None,
        };
        // A column that nobody reads may be a misspelt issue time.
        let known = [
            Some(reader.unit),
            Some(reader.provider),
            Some(reader.resolution),
            Some(reader.delivery_start),
            Some(reader.mwh),
            reader.issued_at,
        ];
        for (place, name) in table.header().iter().enumerate() {
            if !known.contains(&Some(place)) {
                return Err(ImportError::StrangeColumn {
                    column: name.clone(),
                });
            }
        }
        Ok(reader)
    }

    fn read(&mut self, record: &ByteRecord, runs: &mut Runs) -> Result<(), Fault> {
        let (series, resolution) = self.series(record, runs)?;
        let at_start = |reason| Fault::at(self.delivery_start, reason);
        let start = time_reader::rfc3339(field(record, self.delivery_start))
            .and_then(|start| time_reader::delivery_start(start, resolution))
            .map_err(at_start)?;
        let mwh = mwh::read(field(record, self.mwh), Decimal::Point, 1.0)
            .map_err(|reason| Fault::at(self.mwh, reason))?;
        let issued_at = match self.issued_at.map(|place| (place, field(record, place))) {
            None | Some((_, [])) => self.now,
            Some((place, text)) => {
                time_reader::rfc3339(text).map_err(|reason| Fault::at(place, reason))?
            }
        };
        let place = runs
            .place(series, issued_at, start)
            .map_err(|error| match error {
                PlaceError::Twice => at_start(error.to_string()),
                PlaceError::IssueTime => Fault {
                    column: self.issued_at,
                    reason: error.to_string(),
                },
            })?;
        runs.put(place, start, mwh);
        Ok(())
    }

    /// The series of a row, which mostly is that of the row before.
    fn series(
        &mut self,
        record: &ByteRecord,
        runs: &mut Runs,
    ) -> Result<(usize, Resolution), Fault> {
        let places = [self.unit, self.provider, self.resolution];
        self.named.clear();
        for place in places {
            self.named.extend_from_slice(field(record, place));
            self.named.push(b'\n');
        }
        if let Some(current) = self.current
            && self.named == self.before
        {
            return Ok(current);
        }
        let found = match self.series.get(&self.named) {
            Some(found) => *found,
            None => {
                let resolution = parse(record, self.resolution)?;
                let series = runs.add_series(SeriesKey {
                    unit: parse(record, self.unit)?,
                    provider: parse(record, self.provider)?,
                    resolution,
                });
                self.series.insert(self.named.clone(), (series, resolution));
                (series, resolution)
            }
        };
        std::mem::swap(&mut self.named, &mut self.before);
        self.current = Some(found);
        Ok(found)
    }
}

fn parse<T: FromStr<Err: ToString>>(record: &ByteRecord, place: usize) -> Result<T, Fault> {
    let text = String::from_utf8_lossy(field(record, place));
    text.parse()
        .map_err(|error: T::Err| Fault::at(place, format!("`{text}`: {}", error.to_string())))
}
