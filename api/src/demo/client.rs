//! A client of the server's own GraphQL, over HTTP but without a socket: what
//! the demo writes goes through every check that anybody's data does.

use anyhow::{Context, bail};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(super) struct Client {
    router: Router,
}

impl Client {
    pub(super) fn new(router: Router) -> Self {
        Self { router }
    }

    /// Runs a mutation with its `input`.
    pub(super) async fn mutate(&self, document: &str, input: Value) -> anyhow::Result<()> {
        let body = json!({ "query": document, "variables": { "input": input } });
        let request = Request::post("/graphql")
            .header(header::CONTENT_TYPE, "application/json")
            .header("smartpulse-user", "demo")
            .body(Body::from(body.to_string()))?;
        let response = self.router.clone().oneshot(request).await?;
        let bytes = to_bytes(response.into_body(), usize::MAX).await?;
        let answer: Value = serde_json::from_slice(&bytes).context("the answer is no JSON")?;
        if let Some(errors) = answer.get("errors") {
            bail!("the server refused: {errors}");
        }
        Ok(())
    }
}
