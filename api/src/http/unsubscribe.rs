//! Ending mails by the link in each of them, without signing in: by a button on a
//! page, or by the mail program itself (RFC 8058).

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::notification::{self, Channel, Preference, SettingsUpdate};
use serde::Deserialize;
use time::OffsetDateTime;

use super::Shared;

/// What the link says.
#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    token: String,
}

/// `GET /unsubscribe`: a page with a button. Programs that look at links to see
/// whether they are safe must end nothing.
pub(super) async fn ask(State(shared): State<Arc<Shared>>, Query(link): Query<Link>) -> Response {
    match shared.channels.unsubscribing(&link.token) {
        Some((_, category)) => page(
            StatusCode::OK,
            "No more of these mails?",
            &format!(
                "<p>You will get no more mails of the category <b>{}</b>.</p>\
                 <form method=\"post\"><button>Unsubscribe</button></form>",
                escape(&category)
            ),
        ),
        None => unsigned(),
    }
}

/// `POST /unsubscribe`: no more mails of the category.
pub(super) async fn end(State(shared): State<Arc<Shared>>, Query(link): Query<Link>) -> Response {
    let Some((user, category)) = shared.channels.unsubscribing(&link.token) else {
        return unsigned();
    };
    match unsubscribe(&shared, &user, &category).await {
        Ok(()) => page(
            StatusCode::OK,
            "Unsubscribed",
            &format!(
                "<p>You get no more mails of the category <b>{}</b>. \
                 In the app you can turn them on again.</p>",
                escape(&category)
            ),
        ),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "somebody could not be unsubscribed"
            );
            page(
                StatusCode::SERVICE_UNAVAILABLE,
                "Not now",
                "<p>Something is wrong on our side. Please try again later.</p>",
            )
        }
    }
}

async fn unsubscribe(
    shared: &Shared,
    user: &str,
    category: &str,
) -> Result<(), notification::NotificationError> {
    let db = shared.health.log.database();
    let update = SettingsUpdate {
        preferences: vec![Preference {
            category: Some(category.to_owned()),
            channel: Some(Channel::Email),
            enabled: Some(false),
        }],
        ..SettingsUpdate::default()
    };
    match notification::user(db.reader(), user).await? {
        Some(user) => {
            notification::update_settings(db, user.id, &update, OffsetDateTime::now_utc()).await
        }
        // Who is gone gets nothing.
        None => Ok(()),
    }
}

fn unsigned() -> Response {
    page(
        StatusCode::BAD_REQUEST,
        "This link does not work",
        "<p>It is not complete, or not from us. Please take the one in the newest mail.</p>",
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem}}\
         button{{font:inherit;padding:.5rem 1rem}}</style><h1>{title}</h1>{content}</html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        ),
        // The address says who it is for.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}
