//! What the answer to an operation weighs, told from its plan and its variables
//! before any work.

use std::borrow::Cow;

use async_graphql::Variables;
use async_graphql::parser::types::Field;
use async_graphql_value::{ConstValue, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::graphql::page;
use crate::graphql::types::points;

/// What each resolved field takes beside its text while an answer is made.
const FIELD_BYTES: u64 = 200;
/// Items of a list that says nothing of its length.
const FEW: u64 = 10;
/// Delivery periods that one change may have written: a month of quarter-hours.
const LONGEST_CHANGE: u64 = 31 * 96;

/// The weight of a selection, up to what variables make of it.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Bytes of text.
    text: u64,
    /// Fields that are resolved each by itself.
    fields: u64,
    scaled: Vec<(Times, Cost)>,
}

/// How often a selection is answered.
#[derive(Debug)]
enum Times {
    Few,
    /// Once; lists below are a page of this size.
    OfPage {
        first: Option<Value>,
        last: Option<Value>,
    },
    /// For each item of the page around it.
    Page,
    /// Once; a curve below has these delivery periods.
    OfRange(Range),
    /// For each of these ranges.
    OfRanges(Value),
    /// For each delivery period of the range around it.
    Periods,
    Fixed(u64),
}

#[derive(Debug)]
struct Range {
    from: Value,
    to: Value,
    resolution: Value,
}

/// What is known from the fields around a selection.
#[derive(Clone, Copy)]
struct Around {
    page: u64,
    periods: u64,
}

impl Cost {
    /// The weight in bytes, with what a request gives its variables.
    pub(super) fn bytes(&self, variables: &Variables) -> u64 {
        let around = Around {
            page: FEW,
            periods: FEW,
        };
        let (text, fields) = self.weigh(variables, around);
        text.saturating_add(fields.saturating_mul(FIELD_BYTES))
    }

    /// Adds a field: what it writes itself, and what lies below it.
    pub(super) fn add(&mut self, of: Selected<'_>, below: Cost) {
        let mut field = below;
        self.text += of.key_bytes;
        field.text += leaf_bytes(of.named_type);
        field.fields += 1;
        let is_points = of.named_type == "ForecastPoint";
        if is_points && points::is_plain(&of.field.selection_set.node) {
            // Written at once, whatever is selected.
            field.fields = 0;
        }
        match times(&of) {
            None => self.absorb(field),
            Some(Times::Periods) if !is_points => {
                // Numbers, one after the other.
                field.fields = 0;
                self.scaled.push((Times::Periods, field));
            }
            Some(times) => self.scaled.push((times, field)),
        }
    }

    /// Of so much text in so many fields.
    pub(super) fn fixed(text: u64, fields: u64) -> Self {
        Self {
            text,
            fields,
            scaled: Vec::new(),
        }
    }

    /// Adds what is selected beside it.
    pub(super) fn absorb(&mut self, other: Cost) {
        self.text = self.text.saturating_add(other.text);
        self.fields = self.fields.saturating_add(other.fields);
        self.scaled.extend(other.scaled);
    }

    fn weigh(&self, variables: &Variables, around: Around) -> (u64, u64) {
        let mut sum = (self.text, self.fields);
        for (times, of) in &self.scaled {
            let (text, fields) = match times {
                Times::Few => scale(of.weigh(variables, around), FEW),
                Times::Page => scale(of.weigh(variables, around), around.page),
                Times::Periods => scale(of.weigh(variables, around), around.periods),
                Times::Fixed(times) => scale(of.weigh(variables, around), *times),
                Times::OfPage { first, last } => {
                    let number = |value: &Option<Value>| {
                        let value = resolve(value.as_ref()?, variables)?;
                        match value.as_ref() {
                            ConstValue::Number(number) => number.as_u64(),
                            _ => None,
                        }
                    };
                    let page = number(first).or_else(|| number(last));
                    let page = page.map_or(page::PAGE as u64, |n| n.min(page::LARGEST_PAGE as u64));
                    of.weigh(variables, Around { page, ..around })
                }
                Times::OfRange(range) => {
                    let periods = range.periods(variables);
                    of.weigh(variables, Around { periods, ..around })
                }
                Times::OfRanges(ranges) => {
                    let ranges = resolve(ranges, variables);
                    let ranges = match ranges.as_deref() {
                        Some(ConstValue::List(ranges)) => ranges.as_slice(),
                        Some(range) => std::slice::from_ref(range),
                        None => &[],
                    };
                    let each = ranges.iter().map(|range| {
                        let periods = periods_of(range);
                        of.weigh(variables, Around { periods, ..around })
                    });
                    each.fold((0, 0), add)
                }
            };
            sum = add(sum, (text, fields));
        }
        sum
    }
}

/// A field that is selected.
pub(super) struct Selected<'a> {
    pub(super) field: &'a Field,
    pub(super) parent: &'a str,
    pub(super) named_type: &'a str,
    pub(super) is_list: bool,
    pub(super) key_bytes: u64,
}

fn times(of: &Selected<'_>) -> Option<Times> {
    let argument = |name: &str| {
        let value = of.field.get_argument(name);
        value.map(|value| value.node.clone())
    };
    let name = of.field.name.node.as_str();
    if of.named_type.ends_with("Connection") {
        return Some(Times::OfPage {
            first: argument("first"),
            last: argument("last"),
        });
    }
    if let (Some(from), Some(to), Some(resolution)) =
        (argument("from"), argument("to"), argument("resolution"))
    {
        return Some(Times::OfRange(Range {
            from,
            to,
            resolution,
        }));
    }
    if let Some(selections) = argument("selections") {
        return Some(Times::OfRanges(selections));
    }
    match (of.parent, name) {
        ("Forecast", "points" | "values") | ("ForecastLive", "changed" | "removed") => {
            Some(Times::Periods)
        }
        ("ForecastChange", "points") => Some(Times::Fixed(LONGEST_CHANGE)),
        (parent, "nodes" | "edges") if parent.ends_with("Connection") => Some(Times::Page),
        _ => of.is_list.then_some(Times::Few),
    }
}

/// Bytes of a value, about; of an object its brackets.
fn leaf_bytes(named_type: &str) -> u64 {
    match named_type {
        "Boolean" => 5,
        "Int" | "Float" => 9,
        "DateTime" => 22,
        "String" | "ID" => 40,
        // Mostly some fields; at most 64 KiB where it is stored.
        "JSON" => 4_000,
        _ => 12,
    }
}

impl Range {
    fn periods(&self, variables: &Variables) -> u64 {
        let text = |value| resolve(value, variables);
        let (from, to) = (text(&self.from), text(&self.to));
        let resolution = text(&self.resolution);
        periods(from.as_deref(), to.as_deref(), resolution.as_deref())
    }
}

fn periods_of(selection: &ConstValue) -> u64 {
    let ConstValue::Object(selection) = selection else {
        return 0;
    };
    periods(
        selection.get("from"),
        selection.get("to"),
        selection.get("resolution"),
    )
}

/// Delivery periods of a range; none of one that cannot be.
fn periods(
    from: Option<&ConstValue>,
    to: Option<&ConstValue>,
    resolution: Option<&ConstValue>,
) -> u64 {
    let instant = |value: Option<&ConstValue>| match value {
        Some(ConstValue::String(text)) => OffsetDateTime::parse(text, &Rfc3339).ok(),
        _ => None,
    };
    let (Some(from), Some(to)) = (instant(from), instant(to)) else {
        return 0;
    };
    let seconds = match resolution {
        Some(ConstValue::String(name)) => resolution_seconds(name),
        Some(ConstValue::Enum(name)) => resolution_seconds(name),
        _ => SHORTEST_SECONDS,
    };
    let length = u64::try_from((to - from).whole_seconds()).unwrap_or(0);
    length.div_ceil(seconds)
}

/// Of a resolution that is not known here.
const SHORTEST_SECONDS: u64 = 300;

fn resolution_seconds(name: &str) -> u64 {
    match name {
        "PT10M" => 600,
        "PT15M" => 900,
        "PT30M" => 1_800,
        "PT1H" => 3_600,
        _ => SHORTEST_SECONDS,
    }
}

/// A value of an argument, with those of variables; a variable within a list or
/// an object is put into a copy.
fn resolve<'v>(value: &Value, variables: &'v Variables) -> Option<Cow<'v, ConstValue>> {
    match value {
        Value::Variable(name) => variables.get(name).map(Cow::Borrowed),
        literal => {
            let value = literal.clone().into_const_with(|name| {
                Ok::<_, std::convert::Infallible>(variables.get(&name).cloned().unwrap_or_default())
            });
            value.ok().map(Cow::Owned)
        }
    }
}

fn add(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

fn scale(of: (u64, u64), times: u64) -> (u64, u64) {
    (of.0.saturating_mul(times), of.1.saturating_mul(times))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::graphql::Limits;
    use crate::graphql::operation::document::Documents;

    /// The cost of a query with these variables.
    fn cost(query: &str, variables: serde_json::Value) -> u64 {
        let limits = Limits {
            depth: 15,
            tokens: 1000,
            aliases: 100,
            points: 1000,
            answer_bytes: u64::MAX,
            body_bytes: 1000,
            operation_timeout: std::time::Duration::from_secs(1),
        };
        let variables = serde_json::from_value(variables).unwrap();
        let prepared = Documents::new(limits, 1 << 20).prepare(query, None, variables);
        prepared
            .unwrap_or_else(|errors| panic!("{query}: {errors:?}"))
            .cost
    }

    fn forecast(days: u32, below: &str) -> u64 {
        let query = format!(
            "query($to: DateTime!) {{ forecast(unit: \"plant:1\", provider: \"p\", resolution: PT1H,
                from: \"2024-01-01T00:00:00Z\", to: $to) {{ {below} }} }}"
        );
        cost(
            &query,
            json!({ "to": format!("2024-01-{:02}T00:00:00Z", days + 1) }),
        )
    }

    #[test]
    fn a_curve_weighs_what_its_periods_do() {
        let position = forecast(1, "position");
        assert_eq!(position, forecast(9, "position"));
        let day = forecast(1, "values") - forecast(0, "values");
        assert!((24 * 8..24 * 30).contains(&day), "{day}");
        assert_eq!(forecast(9, "values") - forecast(0, "values"), 9 * day);
        let twice = forecast(1, "a: values b: values") - forecast(0, "a: values b: values");
        assert_eq!(twice, 2 * day);
        let plain = forecast(1, "points { deliveryStart mwh }");
        let resolved = forecast(1, "points { deliveryStart run { receivedAt } }");
        assert!(resolved > 5 * plain, "{plain} and {resolved}");
        // A condition that leaves it out leaves out its weight.
        assert!(forecast(30, "position points @skip(if: true) { mwh }") <= position);
    }

    #[test]
    fn a_list_weighs_what_its_items_do() {
        let page = |arguments: &str, variables| {
            cost(
                &format!(
                    "query($n: Int) {{ units{arguments} {{ nodes {{ key name }} }} a: units(first: $n) {{ pageInfo {{ hasNextPage }} }} }}"
                ),
                variables,
            )
        };
        let one = page("(first: 1)", json!({})) - page("(first: 0)", json!({}));
        assert!(one > 400, "{one}");
        let weigh = |arguments, n| {
            page(arguments, json!({ "n": n })) - page("(first: 0)", json!({ "n": n }))
        };
        assert_eq!(weigh("", 1), 50 * one);
        assert_eq!(weigh("(last: 7)", 1), 7 * one);
        assert_eq!(weigh("(first: $n)", 9), 9 * one);
        assert_eq!(weigh("(first: 1000000)", 1), 500 * one);
        let selection = |day: u32| {
            json!({ "unit": "plant:1", "provider": "p", "resolution": "PT15M",
                    "from": "2024-01-01T00:00:00Z", "to": format!("2024-01-{day:02}T00:00:00Z") })
        };
        let many = |selections| {
            cost(
                "query($s: [ForecastSelection!]!) { forecasts(selections: $s) { values } }",
                json!({ "s": selections }),
            )
        };
        let (two, three) = (many(json!([selection(2)])), many(json!([selection(3)])));
        let (none, both) = (many(json!([])), many(json!([selection(2), selection(3)])));
        assert_eq!(both + none, two + three);
        assert!(three > two + 96 * 8, "{two} and {three}");
    }
}
