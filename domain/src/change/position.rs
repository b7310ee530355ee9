//! Positions in the change log.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One history of the database. A restore, or a failover that may have lost
/// writes, begins another; positions of different epochs do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u32);

/// The contiguous number of a committed change, within an epoch; 0 is before
/// the first. On the wire `epoch.number`, such as `5f3a91c2.10482`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub number: u64,
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected a position as the server gave it, for example 5f3a91c2.10482")]
pub struct ParsePositionError;

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, number) = text.split_once('.').ok_or(ParsePositionError)?;
        let digits = |text: &str, radix| {
            !text.is_empty() && text.len() <= 19 && text.chars().all(|c| c.is_digit(radix))
        };
        if epoch.len() != 8 || !digits(epoch, 16) || !digits(number, 10) {
            return Err(ParsePositionError);
        }
        Ok(Self {
            epoch: Epoch(u32::from_str_radix(epoch, 16).map_err(|_| ParsePositionError)?),
            number: number.parse().map_err(|_| ParsePositionError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let position = Position {
            epoch: Epoch(0x00ab_cdef),
            number: 10_482,
        };
        assert_eq!(position.to_string(), "00abcdef.10482");
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn refuses_anything_else() {
        for text in [
            "",
            "1",
            ".",
            "00abcdef.",
            ".1",
            "abc.1",
            "00abcdef.-1",
            "00abcdef.+1",
            "00abcdef.1.2",
            "zzzzzzzz.1",
            "00abcdef.99999999999999999999",
        ] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text}");
        }
    }
}
