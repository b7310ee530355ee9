//! The page: what `web-playground` builds, out of the binary.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use tower_http::compression::CompressionLayer;

/// Empty when the page was not built before the binary.
#[derive(RustEmbed)]
#[folder = "../web-playground/dist/"]
#[allow_missing = true]
struct Files;

const INDEX: &str = "index.html";

/// Nothing from elsewhere, and nobody frames it. Editors set styles by script.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     font-src 'self' data:; img-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether this binary has the page.
pub(crate) fn is_built() -> bool {
    Files::get(INDEX).is_some()
}

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(index))
        .route(
            "/favicon.svg",
            get(|headers| async { file("favicon.svg", headers) }),
        )
        // At the root, since a service worker is for what lies beside and below it;
        // without a hash, since browsers know it by its address.
        .route("/sw.js", get(|headers| async { file("sw.js", headers) }))
        .route("/assets/{*path}", get(asset))
        .layer(CompressionLayer::new())
        .layer(map_response(secured))
}

async fn index(headers: HeaderMap) -> Response {
    if is_built() {
        file(INDEX, headers)
    } else {
        WITHOUT_PAGE.into_response()
    }
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(&format!("assets/{path}"), headers)
}

fn file(path: &str, headers: HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let hash = short_hash(&file);
    let fresh = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| {
        known
            .to_str()
            .is_ok_and(|known| known.contains(&hash) || known == "*")
    });
    let caching = [
        // Weak: the same file compressed is as good.
        (header::ETAG, format!("W/\"{hash}\"")),
        (header::CACHE_CONTROL, cache_control(path).to_owned()),
    ];
    if fresh {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [(header::CONTENT_TYPE, file.metadata.mimetype().to_owned())];
    (caching, kind, file.data).into_response()
}

fn short_hash(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    hash[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn cache_control(path: &str) -> &'static str {
    // Assets have their content's hash in their names.
    if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const WITHOUT_PAGE: &str = "SmartPulse: energy production forecasts, live.

This binary was built without the explorer page. To get it, run `make build`
in the repository: it needs Node.js 20.19 or later, builds the page, and the
binary with it. Everything else is here:

POST /graphql        queries and mutations
WS   /graphql/ws     subscriptions (graphql-transport-ws)
GET  /schema.graphql the schema
GET  /health/ready   can it answer
GET  /metrics        Prometheus metrics
";
