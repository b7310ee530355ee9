//! The values of a forecast as JSON text.
//!
//! A day is 24 to 96 points and a chart asks for many: resolving each field of
//! each point by itself costs ten times the rest of the request. A selection of
//! plain fields is therefore written straight from the packed curve; any other
//! selection is resolved like every object.

use std::borrow::Cow;
use std::fmt::Write;

use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_list;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};
use domain::forecast::{Curve, Point, Resolution, Source};
use time::OffsetDateTime;

use super::forecast::ForecastPoint;
use crate::graphql::operation::TYPE_KEY;
use crate::weight;

/// Points of a forecast, in order.
pub(crate) struct Points {
    pub(crate) resolution: Resolution,
    pub(crate) points: PointSource,
}

/// Where points are taken from.
pub(crate) enum PointSource {
    Curve(Curve),
    List(Vec<Point>),
}

impl PointSource {
    /// The delivery periods that are looked at.
    fn periods(&self) -> usize {
        match self {
            Self::Curve(curve) => curve.range().periods(),
            Self::List(points) => points.len(),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(Point)) {
        match self {
            Self::Curve(curve) => curve.points().for_each(visit),
            Self::List(points) => points.iter().copied().for_each(&mut visit),
        }
    }
}

impl OutputType for Points {
    fn type_name() -> Cow<'static, str> {
        Vec::<ForecastPoint>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<ForecastPoint>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<ForecastPoint>::create_type_info(registry)
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        if let Some(columns) = columns(&field.node.selection_set.node) {
            weight::add(self.points.periods() * columns.len()).await;
            let mut json = String::from("[");
            let mut instant = InstantWriter::default();
            self.points.for_each(|point| {
                json.push_str(if json.len() == 1 { "{" } else { ",{" });
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        json.push(',');
                    }
                    column.write(&mut json, &point, self.resolution, &mut instant);
                }
                json.push('}');
            });
            json.push(']');
            return Ok(raw(json));
        }
        // An object each costs ten times as much as text.
        weight::add(self.points.periods() * 10).await;
        let mut points = Vec::new();
        self.points.for_each(|point| {
            points.push(ForecastPoint {
                resolution: self.resolution,
                point,
            });
        });
        let count = points.len();
        resolve_list(ctx, field, points, Some(count)).await
    }
}

/// One float for each delivery period, or null.
pub(crate) struct Values(pub(crate) Curve);

impl OutputType for Values {
    fn type_name() -> Cow<'static, str> {
        Vec::<Option<f64>>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<Option<f64>>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<Option<f64>>::create_type_info(registry)
    }

    async fn resolve(
        &self,
        _: &ContextSelectionSet<'_>,
        _: &Positioned<Field>,
    ) -> ServerResult<Value> {
        weight::add(self.0.range().periods()).await;
        let mut json = String::with_capacity(self.0.range().periods() * 8 + 2);
        json.push('[');
        for (i, mwh) in self.0.values().enumerate() {
            if i > 0 {
                json.push(',');
            }
            write_number(&mut json, mwh);
        }
        json.push(']');
        Ok(raw(json))
    }
}

/// JSON text as a value: input cannot have this form, and completion takes what has
/// it for what it is.
fn raw(json: String) -> Value {
    Value::Binary(json.into())
}

/// One selected field of a point, with its key and the colon after it.
struct Column {
    prefix: String,
    field: Plain,
}

/// Fields whose value is in the point itself.
enum Plain {
    DeliveryStart,
    DeliveryEnd,
    Mwh,
    Mw,
    IssuedAt,
    TypeName(&'static str),
    Run(Vec<RunColumn>),
}

struct RunColumn {
    prefix: String,
    field: PlainOfRun,
}

enum PlainOfRun {
    Id,
    IssuedAt,
    TypeName,
}

fn prefix(field: &Field) -> String {
    // A response key is a GraphQL name: nothing in it needs escaping.
    format!("\"{}\":", field.response_key().node)
}

/// The selected columns, if all of them are plain. What is executed is a plan: its
/// selections of an object are fields, each key once.
fn columns(selection: &SelectionSet) -> Option<Vec<Column>> {
    let columns = fields(selection).map(|field| {
        let plain = match field.name.node.as_str() {
            "deliveryStart" => Plain::DeliveryStart,
            "deliveryEnd" => Plain::DeliveryEnd,
            "mwh" => Plain::Mwh,
            "mw" => Plain::Mw,
            "issuedAt" => Plain::IssuedAt,
            "__typename" => Plain::TypeName("ForecastPoint"),
            "run" => Plain::Run(run_columns(&field.selection_set.node)?),
            _ => return None,
        };
        Some(Column {
            prefix: prefix(field),
            field: plain,
        })
    });
    columns.collect()
}

/// Whether points are written at once, rather than resolved one by one.
pub(crate) fn is_plain(selection: &SelectionSet) -> bool {
    columns(selection).is_some()
}

fn run_columns(selection: &SelectionSet) -> Option<Vec<RunColumn>> {
    let columns = fields(selection).map(|field| {
        let plain = match field.name.node.as_str() {
            "id" => PlainOfRun::Id,
            "issuedAt" => PlainOfRun::IssuedAt,
            "__typename" => PlainOfRun::TypeName,
            _ => return None,
        };
        Some(RunColumn {
            prefix: prefix(field),
            field: plain,
        })
    });
    columns.collect()
}

/// What an answer has of a selection.
fn fields(selection: &SelectionSet) -> impl Iterator<Item = &Field> {
    let items = selection.items.iter();
    let fields = items.filter_map(|item| match &item.node {
        Selection::Field(field) => Some(&field.node),
        Selection::InlineFragment(_) | Selection::FragmentSpread(_) => None,
    });
    fields.filter(|field| field.response_key().node != TYPE_KEY)
}

impl Column {
    fn write(
        &self,
        json: &mut String,
        point: &Point,
        resolution: Resolution,
        instant: &mut InstantWriter,
    ) {
        json.push_str(&self.prefix);
        match &self.field {
            Plain::DeliveryStart => instant.write_seconds(json, point.delivery_start),
            Plain::DeliveryEnd => {
                instant.write_seconds(json, point.delivery_start + resolution.seconds());
            }
            Plain::Mwh => write_number(json, point.mwh),
            Plain::Mw => write_number(json, point.mwh / resolution.hours()),
            Plain::IssuedAt => instant.write_issue(json, &point.source),
            Plain::TypeName(name) => {
                let _ = write!(json, "\"{name}\"");
            }
            Plain::Run(columns) => {
                json.push('{');
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        json.push(',');
                    }
                    json.push_str(&column.prefix);
                    match column.field {
                        PlainOfRun::Id => {
                            let _ = write!(json, "\"run:{}\"", point.source.run_id);
                        }
                        PlainOfRun::IssuedAt => instant.write_issue(json, &point.source),
                        PlainOfRun::TypeName => json.push_str("\"ForecastRun\""),
                    }
                }
                json.push('}');
            }
        }
    }
}

/// Writes instants as RFC 3339; remembers the last issue time, which hardly changes.
#[derive(Default)]
struct InstantWriter {
    issue: Option<(OffsetDateTime, String)>,
    day: Option<(i64, [u8; 10])>,
}

impl InstantWriter {
    fn write_issue(&mut self, json: &mut String, source: &Source) {
        let at = source.issued_at;
        if !matches!(&self.issue, Some((last, _)) if *last == at) {
            let text = at
                .to_offset(time::UtcOffset::UTC)
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default();
            self.issue = Some((at, text));
        }
        if let Some((_, text)) = &self.issue {
            json.push('"');
            json.push_str(text);
            json.push('"');
        }
    }

    fn write_seconds(&mut self, json: &mut String, seconds: i64) {
        let (day, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        if !matches!(self.day, Some((last, _)) if last == day) {
            let date = domain::forecast::Day::of(seconds).date();
            let mut text = *b"0000-00-00";
            let year = date.year().unsigned_abs();
            put(&mut text[0..2], year / 100);
            put(&mut text[2..4], year % 100);
            put(&mut text[5..7], u32::from(u8::from(date.month())));
            put(&mut text[8..10], u32::from(date.day()));
            self.day = Some((day, text));
        }
        let mut text = *b"\"0000-00-00T00:00:00Z\"";
        if let Some((_, date)) = &self.day {
            text[1..11].copy_from_slice(date);
        }
        let of_day = u32::try_from(of_day).unwrap_or(0);
        put(&mut text[12..14], of_day / 3600);
        put(&mut text[15..17], of_day / 60 % 60);
        put(&mut text[18..20], of_day % 60);
        json.push_str(std::str::from_utf8(&text).unwrap_or_default());
    }
}

fn put(place: &mut [u8], number: u32) {
    place[0] = b'0' + u8::try_from(number / 10 % 10).unwrap_or(0);
    place[1] = b'0' + u8::try_from(number % 10).unwrap_or(0);
}

/// As serde_json writes a number; null where there is none.
fn write_number(json: &mut String, number: f64) {
    if number.is_finite() {
        let mut buffer = zmij::Buffer::new();
        json.push_str(buffer.format_finite(number));
    } else {
        json.push_str("null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_numbers_are_written_as_serde_writes_them() {
        let mut writer = InstantWriter::default();
        for seconds in [
            0,
            1_709_247_600,
            1_711_846_800,
            1_711_846_800 + 86_399,
            4_102_444_800,
        ] {
            let mut json = String::new();
            writer.write_seconds(&mut json, seconds);
            let expect = OffsetDateTime::from_unix_timestamp(seconds)
                .unwrap()
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap();
            assert_eq!(json, format!("\"{expect}\""));
        }
        for number in [0.0, 4.0, -2.5, 285.541656, 1e-7, 1e12, 123456789.125] {
            let mut json = String::new();
            write_number(&mut json, number);
            assert_eq!(json, serde_json::to_string(&number).unwrap());
        }
    }
}
