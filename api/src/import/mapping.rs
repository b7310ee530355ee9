//! What the columns of a wide file mean: a small TOML file.
//!
//! ```toml
//! delimiter = ";"               # "," if absent
//! decimal = ","                 # "." if absent
//! missing = ["-50.0", "NaN"]    # fields that hold no value; empty ones never do
//! resolution = "PT15M"          # PT15M, PT30M or PT1H
//! quantity = "MW"               # MW is the mean power of the period; or MWh
//!
//! [time]                        # when the delivery period begins
//! column = "Start"
//! format = "%Y-%m-%d %H:%M"     # strftime; or "rfc3339", which it is if absent
//! zone = "Europe/Madrid"        # or "UTC", "+01:00"; only if the text has no offset
//!
//! [filter]                      # only rows with these texts
//! PriceArea = "DK2"
//!
//! [[unit]]                      # created, or updated in what is given here
//! key = "group:45002"
//! name = "DK2 onshore wind"
//! time_zone = "Europe/Copenhagen"
//! capacity_mw = 770.0
//!
//! [[provider]]
//! key = "energinet"
//! name = "Energinet"
//!
//! [[column]]                    # one for each column of values
//! name = "ForecastDayAhead"
//! unit = "group:45002"
//! provider = "energinet"
//! issued = "day before at 18:00 Europe/Copenhagen"
//! ```
//!
//! `issued` is one of the forms that [`IssueRule`] reads. Columns may fill one
//! series together: where their issue times are equal for a period, the later
//! column wins.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use domain::Patch;
use domain::forecast::{Resolution, SeriesKey};
use domain::provider::{ProviderKey, ProviderUpsert};
use domain::unit::{UnitKey, UnitUpsert};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::ImportError;
use super::issue_rule::IssueRule;
use super::mwh::Decimal;
use super::time_reader::TimeFormat;
use super::zone::Zone;

/// What the columns of a wide file mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    #[serde(default)]
    pub delimiter: Delimiter,
    #[serde(default)]
    pub decimal: Decimal,
    /// Fields that hold no value, besides empty ones.
    #[serde(default)]
    pub missing: Vec<String>,
    #[serde(deserialize_with = "parsed")]
    pub resolution: Resolution,
    pub quantity: Quantity,
    pub time: TimeColumn,
    /// Only rows with these texts in these columns are imported.
    #[serde(default)]
    pub filter: BTreeMap<String, String>,
    #[serde(default, rename = "unit")]
    pub units: Vec<Unit>,
    #[serde(default, rename = "provider")]
    pub providers: Vec<Provider>,
    #[serde(rename = "column", deserialize_with = "columns")]
    pub columns: Vec<Column>,
}

/// The byte between fields.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "char")]
pub(super) struct Delimiter(pub u8);

impl Default for Delimiter {
    fn default() -> Self {
        Self(b',')
    }
}

impl TryFrom<char> for Delimiter {
    type Error = &'static str;

    fn try_from(text: char) -> Result<Self, Self::Error> {
        match u8::try_from(text) {
            Ok(byte) if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | b'"') => Ok(Self(byte)),
            _ => Err("a delimiter is one ASCII character, such as `;`"),
        }
    }
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Quantity {
    /// Mean power of the delivery period.
    #[serde(rename = "MW")]
    Power,
    /// Energy of the delivery period.
    #[serde(rename = "MWh")]
    Energy,
}

/// The column that says when the delivery period begins.
#[derive(Debug, Deserialize)]
#[serde(try_from = "TimeColumnFields")]
pub(super) struct TimeColumn {
    pub column: String,
    pub format: TimeFormat,
    /// Given just when times have no offset of their own.
    pub zone: Option<Zone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeColumnFields {
    column: String,
    #[serde(default = "rfc3339", deserialize_with = "parsed")]
    format: TimeFormat,
    #[serde(default, deserialize_with = "parsed_option")]
    zone: Option<Zone>,
}

fn rfc3339() -> TimeFormat {
    TimeFormat::Rfc3339
}

impl TryFrom<TimeColumnFields> for TimeColumn {
    type Error = &'static str;

    fn try_from(fields: TimeColumnFields) -> Result<Self, Self::Error> {
        match (fields.format.has_offset(), &fields.zone) {
            (true, Some(_)) => Err("times of this format have their offset: remove `zone`"),
            (false, None) => Err(
                "times of this format have no offset: give their `zone`, such as Europe/Madrid, UTC or +01:00",
            ),
            _ => Ok(Self {
                column: fields.column,
                format: fields.format,
                zone: fields.zone,
            }),
        }
    }
}

/// A unit that the file is about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unit {
    #[serde(deserialize_with = "parsed")]
    pub key: UnitKey,
    pub name: Option<String>,
    pub time_zone: Option<String>,
    pub capacity_mw: Option<f64>,
}

impl Unit {
    pub(super) fn to_upsert(&self) -> UnitUpsert {
        fn patch<T: Clone>(given: &Option<T>) -> Patch<T> {
            given.clone().map_or(Patch::Keep, Patch::Set)
        }
        UnitUpsert {
            key: self.key,
            name: patch(&self.name),
            time_zone: patch(&self.time_zone),
            parent: Patch::Keep,
            capacity_mw: patch(&self.capacity_mw),
            capacity_valid_from: None,
        }
    }
}

/// A provider that the file is from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    #[serde(deserialize_with = "parsed")]
    pub key: ProviderKey,
    pub name: Option<String>,
}

impl Provider {
    pub(super) fn to_upsert(&self) -> ProviderUpsert {
        ProviderUpsert {
            key: self.key.clone(),
            name: self.name.clone(),
        }
    }
}

/// A column of values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub name: String,
    #[serde(deserialize_with = "parsed")]
    pub unit: UnitKey,
    #[serde(deserialize_with = "parsed")]
    pub provider: ProviderKey,
    #[serde(deserialize_with = "parsed")]
    pub issued: IssueRule,
}

impl Mapping {
    pub(super) fn load(path: &Path) -> Result<Self, ImportError> {
        let text = std::fs::read_to_string(path).map_err(|source| ImportError::File {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ImportError::Mapping {
            path: path.to_owned(),
            source,
        })
    }

    /// The series that a column's values are of.
    pub(super) fn series(&self, column: &Column) -> SeriesKey {
        SeriesKey {
            unit: column.unit,
            provider: column.provider.clone(),
            resolution: self.resolution,
        }
    }

    /// How many MWh one of the file's numbers is.
    pub(super) fn mwh_each(&self) -> f64 {
        match self.quantity {
            Quantity::Power => self.resolution.hours(),
            Quantity::Energy => 1.0,
        }
    }
}

/// A text that is parsed, so that what is wrong with it has its line.
fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

fn parsed_option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    parsed(deserializer).map(Some)
}

/// At least one column, and none that another one would always hide.
fn columns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Column>, D::Error> {
    let columns = Vec::<Column>::deserialize(deserializer)?;
    if columns.is_empty() {
        return Err(D::Error::custom("give at least one [[column]]"));
    }
    for (i, column) in columns.iter().enumerate() {
        let same = |other: &&Column| {
            (other.unit, &other.provider, &other.issued)
                == (column.unit, &column.provider, &column.issued)
        };
        if let Some(other) = columns[..i].iter().find(same) {
            return Err(D::Error::custom(format!(
                "the columns `{}` and `{}` give one unit and provider values with one issue time",
                other.name, column.name
            )));
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
resolution = "PT1H"
quantity = "MW"
[time]
column = "time"
[[column]]
name = "solar"
unit = "plant:1"
provider = "a"
issued = "at delivery"
"#;

    #[test]
    fn reads_the_smallest_mapping() {
        let mapping: Mapping = toml::from_str(SMALLEST).unwrap();
        assert_eq!(mapping.delimiter.0, b',');
        assert_eq!(mapping.decimal, Decimal::Point);
        assert_eq!(mapping.time.format, TimeFormat::Rfc3339);
        assert_eq!(mapping.mwh_each(), 1.0);
    }

    #[test]
    fn reads_the_mapping_of_its_own_document() {
        let document: String = include_str!("mapping.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//!").trim_start()))
            .collect();
        let mapping: Mapping = toml::from_str(&document).unwrap();
        assert_eq!(mapping.delimiter.0, b';');
        assert_eq!(mapping.decimal, Decimal::Comma);
        assert_eq!(mapping.mwh_each(), 0.25);
        assert_eq!(mapping.filter["PriceArea"], "DK2");
        assert_eq!(mapping.units[0].capacity_mw, Some(770.0));
    }

    #[test]
    fn reads_the_mappings_that_come_with_smartpulse() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mappings");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                Mapping::load(&path).unwrap();
                count += 1;
            }
        }
        assert!(count >= 2);
    }

    fn check(from: &str, to: &str, expect: &[&str]) {
        assert!(SMALLEST.contains(from), "{from}");
        let error = toml::from_str::<Mapping>(&SMALLEST.replacen(from, to, 1)).unwrap_err();
        let message = error.to_string();
        for part in expect {
            assert!(message.contains(part), "{to}: {message}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let column = "column = \"time\"";
        check(
            "quantity",
            "quality",
            &["line 3", "unknown field `quality`"],
        );
        check("\"MW\"", "\"GW\"", &["line 3", "unknown variant `GW`"]);
        check("PT1H", "PT2H", &["line 2", "PT15M, PT30M or PT1H"]);
        check("resolution", "delimiter = \";;\"\nresolution", &["line 2"]);
        check("resolution", "decimal = \";\"\nresolution", &["line 2"]);
        check("plant:1", "plant", &["line 8", "plant:12345"]);
        check("\"a\"", "\"A\"", &["line 9", "provider key"]);
        check(
            "at delivery",
            "at dawn",
            &["line 10", "5 h before delivery"],
        );
        check(
            "at delivery",
            "same day at 06:00 Mars",
            &["line 10", "`Mars` is not a time zone"],
        );
        check(
            column,
            "column = \"time\"\nzone = \"UTC\"",
            &["line 4", "remove `zone`"],
        );
        check(
            column,
            "column = \"time\"\nformat = \"%F %R\"",
            &["line 4", "give their `zone`"],
        );
        check(
            column,
            "column = \"time\"\nformat = \"%F %R\"\nzone = \"Mars\"",
            &["line 7", "`Mars` is not a time zone"],
        );
        check(
            column,
            "column = \"time\"\nformat = \"%F\"",
            &["line 6", "a date and a time"],
        );
        check(
            column,
            "column = \"time\"\ntype = 1",
            &["line 6", "unknown field `type`"],
        );
        let twice = "[[column]]\nname = \"x\"\nunit = \"plant:1\"\nprovider = \"a\"\nissued = \"at delivery\"\n[[column]]";
        check("[[column]]", twice, &["`x` and `solar`"]);
        let without = SMALLEST.split("[[column]]").next().unwrap();
        let error = toml::from_str::<Mapping>(without).unwrap_err().to_string();
        assert!(error.contains("missing field `column`"), "{error}");
    }
}
