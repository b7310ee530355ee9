//! Files with a row per delivery period, and a column per series or version.

use csv::ByteRecord;
use jiff::Timestamp;

use super::issue_rule::{IssueClock, IssueRule};
use super::mapping::Mapping;
use super::reject::{Fault, Rejects};
use super::runs::{Place, PlaceError, Runs};
use super::table::{Table, field};
use super::time_reader::TimeReader;
use super::{ImportError, mwh, time_reader};

/// Reads a table to its end by its mapping. Returns the rows left out.
pub(super) fn read(
    table: &mut Table,
    mapping: &Mapping,
    runs: &mut Runs,
) -> Result<Rejects, ImportError> {
    let mut reader = WideReader::new(table, mapping, runs)?;
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

struct WideReader<'m> {
    mapping: &'m Mapping,
    mwh_each: f64,
    delivery_start: TimeColumn<'m>,
    /// Places of columns, and the texts they must have.
    filter: Vec<(usize, &'m str)>,
    columns: Vec<Column<'m>>,
    /// The values of the row at hand.
    row: Vec<(Place, f64)>,
}

struct TimeColumn<'m> {
    place: usize,
    reader: TimeReader<'m>,
}

struct Column<'m> {
    place: usize,
    series: usize,
    issued: Issued<'m>,
}

enum Issued<'m> {
    Derived(IssueClock<'m>),
    Column(TimeColumn<'m>),
}

impl<'m> WideReader<'m> {
    fn new(table: &Table, mapping: &'m Mapping, runs: &mut Runs) -> Result<Self, ImportError> {
        let time_column = |name: &str| {
            Ok::<_, ImportError>(TimeColumn {
                place: table.column(name)?,
                reader: TimeReader::new(&mapping.time.format, mapping.time.zone.as_ref()),
            })
        };
        let delivery_start = time_column(&mapping.time.column)?;
        let columns = mapping
            .columns
            .iter()
            .map(|column| {
                Ok(Column {
                    place: table.column(&column.name)?,
                    series: runs.add_series(mapping.series(column)),
                    issued: match &column.issued {
                        IssueRule::Column { name } => Issued::Column(time_column(name)?),
                        rule => Issued::Derived(IssueClock::new(rule)),
                    },
                })
            })
            .collect::<Result<_, ImportError>>()?;
        let filter = mapping
            .filter
            .iter()
            .map(|(name, text)| Ok((table.column(name)?, text.as_str())))
            .collect::<Result<_, ImportError>>()?;
        Ok(Self {
            mapping,
            mwh_each: mapping.mwh_each(),
            delivery_start,
            filter,
            columns,
            row: Vec::with_capacity(mapping.columns.len()),
        })
    }

    /// Takes every value of a row, or none.
    fn read(&mut self, record: &ByteRecord, runs: &mut Runs) -> Result<(), Fault> {
        let wanted = |(place, text): &(usize, &str)| field(record, *place) == text.as_bytes();
        if !self.filter.iter().all(wanted) {
            return Ok(());
        }
        let time_place = self.delivery_start.place;
        let delivery_start = self.delivery_start.read(record)?;
        let start = time_reader::delivery_start(delivery_start, self.mapping.resolution)
            .map_err(|reason| Fault::at(time_place, reason))?;
        self.row.clear();
        for column in &mut self.columns {
            let text = field(record, column.place);
            if text.is_empty() || self.mapping.missing.iter().any(|m| m.as_bytes() == text) {
                continue;
            }
            let mwh = mwh::read(text, self.mapping.decimal, self.mwh_each)
                .map_err(|reason| Fault::at(column.place, reason))?;
            let (issued_at, issue_place) = column.issued_at(record, delivery_start)?;
            let place =
                runs.place(column.series, issued_at, start)
                    .map_err(|error| match error {
                        PlaceError::Twice => Fault::at(time_place, error.to_string()),
                        PlaceError::IssueTime => Fault::at(issue_place, error.to_string()),
                    })?;
            self.row.push((place, mwh));
        }
        for (place, mwh) in &self.row {
            runs.put(*place, start, *mwh);
        }
        Ok(())
    }
}

impl TimeColumn<'_> {
    fn read(&mut self, record: &ByteRecord) -> Result<Timestamp, Fault> {
        self.reader
            .read(field(record, self.place))
            .map_err(|reason| Fault::at(self.place, reason))
    }
}

impl Column<'_> {
    /// When the value was issued, and the column that says so, if need be.
    fn issued_at(
        &mut self,
        record: &ByteRecord,
        delivery_start: Timestamp,
    ) -> Result<(Timestamp, usize), Fault> {
        match &mut self.issued {
            Issued::Column(column) => Ok((column.read(record)?, column.place)),
            Issued::Derived(clock) => match clock.issued_at(delivery_start) {
                Some(issued_at) => Ok((issued_at, self.place)),
                None => Err(Fault::at(self.place, PlaceError::IssueTime.to_string())),
            },
        }
    }
}
