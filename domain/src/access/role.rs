//! What a caller may do beyond reading.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Something that not everybody may do. Whoever is let in may read forecasts and
/// what is their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, other roles' parts included.
    Admin,
    /// Writes units and providers, and saves forecasts.
    Provider,
    /// Sends notifications, and reads how they were delivered.
    Sender,
}

/// The text is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a role is ADMIN, PROVIDER or SENDER")]
pub struct UnknownRole;

impl Role {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Provider, Self::Sender];

    /// As the database, tokens and GraphQL spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Provider => "PROVIDER",
            Self::Sender => "SENDER",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// Of these words; one that is unknown grants nothing.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        words
            .into_iter()
            .filter_map(|word| word.parse::<Role>().ok())
            .collect()
    }

    /// Whether they allow what `role` is for.
    pub fn allow(self, role: Role) -> bool {
        self.has(Role::Admin) || self.has(role)
    }

    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

/// With commas between them, as the database keeps them.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, role) in self.iter().enumerate() {
            write!(f, "{}{role}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_allows_what_is_in_it_and_an_administrator_everything() {
        let check = |words: &[&str], expect: [bool; 3]| {
            let roles = Roles::of_words(words.iter().copied());
            assert_eq!(Role::ALL.map(|role| roles.allow(role)), expect, "{words:?}");
        };
        check(&[], [false; 3]);
        check(&["ADMIN"], [true; 3]);
        check(&["PROVIDER"], [false, true, false]);
        check(&["SENDER", "PROVIDER", "SENDER"], [false, true, true]);
        // An unknown word grants nothing, a near one neither.
        check(&["admin", "ADMIN ", "OWNER", ""], [false; 3]);
    }

    #[test]
    fn a_set_reads_what_it_writes() {
        for text in ["", "ADMIN", "PROVIDER,SENDER", "ADMIN,PROVIDER,SENDER"] {
            assert_eq!(Roles::of_words(text.split(',')).to_string(), text);
        }
    }
}
