//! Numbers as files write them.

use serde::Deserialize;

/// How a file writes one half.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Decimal {
    /// 0.5
    #[default]
    #[serde(rename = ".")]
    Point,
    /// 0,5
    #[serde(rename = ",")]
    Comma,
}

/// No number of energy has more characters.
const LONGEST: usize = 64;
/// No unit produces more than this in a delivery period, in MWh.
const MOST_MWH: f64 = 1e12;

/// A field as MWh, given how many MWh one of its unit is.
pub(super) fn read(text: &[u8], decimal: Decimal, mwh_each: f64) -> Result<f64, String> {
    let number = match decimal {
        Decimal::Point => parse(text),
        Decimal::Comma => {
            let mut buffer = [0; LONGEST];
            with_point(text, &mut buffer).and_then(parse)
        }
    };
    let shown = || String::from_utf8_lossy(text).into_owned();
    let Some(number) = number else {
        return Err(format!("`{}` is not a number", shown()));
    };
    let mwh = number * mwh_each;
    if !mwh.is_finite() || mwh.abs() > MOST_MWH {
        return Err(format!(
            "{} is not a finite number of MWh, at most 1e12",
            shown()
        ));
    }
    Ok(mwh)
}

fn parse(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The text with a point for its comma; none if it has a point already, which
/// may be meant to group thousands.
fn with_point<'b>(text: &[u8], buffer: &'b mut [u8; LONGEST]) -> Option<&'b [u8]> {
    let copy = buffer.get_mut(..text.len())?;
    copy.copy_from_slice(text);
    for byte in copy.iter_mut() {
        match byte {
            b',' => *byte = b'.',
            b'.' => return None,
            _ => {}
        }
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_points_and_commas() {
        let rows = [
            ("17.0", Decimal::Point, 17.0),
            ("-0.25", Decimal::Point, -0.25),
            ("1e3", Decimal::Point, 1000.0),
            ("285,541656", Decimal::Comma, 285.541_656),
            ("-3", Decimal::Comma, -3.0),
            // To the last bit, as every reader of decimal text has it.
            ("0.1", Decimal::Point, 0.1),
            ("5e-324", Decimal::Point, 5e-324),
        ];
        for (text, decimal, expect) in rows {
            assert_eq!(read(text.as_bytes(), decimal, 1.0), Ok(expect), "{text}");
        }
        // 10 MW for a quarter of an hour.
        assert_eq!(read(b"10", Decimal::Point, 0.25), Ok(2.5));
    }

    #[test]
    fn refuses_what_is_no_number() {
        let rows = [
            ("", Decimal::Point),
            ("abc", Decimal::Point),
            ("1,5", Decimal::Point),
            ("1.000,5", Decimal::Comma),
            ("1,000,5", Decimal::Comma),
            ("1 000", Decimal::Point),
            ("nan", Decimal::Point),
            ("inf", Decimal::Comma),
            ("1e13", Decimal::Point),
            ("1e999", Decimal::Point),
            ("\u{ff11}", Decimal::Point),
        ];
        for (text, decimal) in rows {
            assert!(read(text.as_bytes(), decimal, 1.0).is_err(), "{text}");
        }
        assert!(read(&[b'1'; 100], Decimal::Comma, 1.0).is_err());
        assert!(read(&[0xff], Decimal::Point, 1.0).is_err());
    }
}
