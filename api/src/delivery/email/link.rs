//! Where a notification's link leads, for a reader outside the app.

use url::Url;

/// The link leads nowhere that a mail may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a link is an http or https address, or a path that begins with a slash")]
pub(crate) struct LinkError;

/// The link as an address: a path lies under the public address of the app. Any
/// scheme but HTTP's is refused, so that no click in a mail runs a script.
pub(crate) fn absolute_link(public_url: &Url, link: &str) -> Result<String, LinkError> {
    let address = if link.starts_with('/') {
        // Not joined as browsers do it: that would drop the path which the app
        // may have itself, and let `//host` lead elsewhere.
        format!("{}{link}", public_url.as_str().trim_end_matches('/'))
    } else {
        link.to_owned()
    };
    let address = Url::parse(&address).map_err(|_| LinkError)?;
    match address.scheme() {
        "http" | "https" => Ok(address.into()),
        _ => Err(LinkError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_becomes_an_address() {
        let check = |public_url, link, expected: Option<&str>| {
            let public_url = Url::parse(public_url).unwrap();
            let address = absolute_link(&public_url, link).ok();
            assert_eq!(address.as_deref(), expected, "{link}");
        };
        let app = "https://example.com/app";
        check(app, "/units/1", Some("https://example.com/app/units/1"));
        check(
            "https://example.com",
            "/x?a=b#c",
            Some("https://example.com/x?a=b#c"),
        );
        check(
            app,
            "//evil.example",
            Some("https://example.com/app//evil.example"),
        );
        check(
            app,
            "https://other.example/y",
            Some("https://other.example/y"),
        );
        check(app, "units/1", None);
        check(app, "javascript:alert(1)", None);
        check(app, "data:text/html,x", None);
        check(app, "", None);
    }
}
