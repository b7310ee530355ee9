//! How long a push service keeps a message for a device that is away.

use std::time::Duration;

use domain::notification::Content;
use time::OffsetDateTime;

/// Of what says nothing itself. Forecasts of yesterday wake nobody.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);
/// No push service keeps anything for longer than four weeks.
const LONGEST: Duration = Duration::from_secs(28 * 24 * 60 * 60);

/// How much longer a notification is of use; `None` if it no longer is.
pub(crate) fn lifetime(content: &Content, now: OffsetDateTime) -> Option<Duration> {
    match content.expires_at {
        None => Some(USUAL),
        Some(expires_at) => Duration::try_from(expires_at - now)
            .ok()
            .filter(|left| *left >= Duration::from_secs(1))
            .map(|left| left.min(LONGEST)),
    }
}

#[cfg(test)]
mod tests {
    use domain::notification::Severity;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn it_lasts_until_it_expires_within_what_services_keep() {
        let now = datetime!(2026-03-29 00:00 UTC);
        let check = |expires_at, expect: Option<u64>| {
            let content = Content {
                notification_id: 1,
                title: String::new(),
                body: String::new(),
                severity: Severity::Info,
                category: String::new(),
                data: None,
                link: None,
                template: None,
                variables: None,
                attachments: Vec::new(),
                created_at: now,
                expires_at,
            };
            let expect = expect.map(Duration::from_secs);
            assert_eq!(lifetime(&content, now), expect, "{expires_at:?}");
        };
        check(None, Some(86_400));
        check(Some(datetime!(2026-03-29 00:10 UTC)), Some(600));
        check(Some(datetime!(2027-03-29 00:00 UTC)), Some(2_419_200));
        check(Some(now), None);
        check(Some(now + Duration::from_millis(900)), None);
        check(Some(datetime!(2026-03-28 00:00 UTC)), None);
    }
}
