//! A client as an app would write it.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub(crate) const SAVE_HOUR: &str =
    "mutation($mwh: [Float]!) { saveForecasts(input: { runs: [{ unit: \"plant:1\", provider: \"p\",
    resolution: PT1H, start: \"2024-05-01T00:00:00Z\", values: $mwh }] }) { position } }";

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        smartpulse::tls::install();
        Self {
            http: reqwest::Client::new(),
            address,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The whole answer, or why there is none.
    pub(crate) async fn try_graphql(
        &self,
        query: &str,
        variables: Value,
    ) -> Result<Value, reqwest::Error> {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(self.url("/graphql")).json(&body);
        request.send().await?.json().await
    }

    pub(crate) async fn graphql(&self, query: &str, variables: Value) -> Value {
        self.try_graphql(query, variables).await.unwrap()
    }

    /// The data of an answer that must have no errors.
    pub(crate) async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.graphql(query, variables).await;
        assert_eq!(answer["errors"], Value::Null, "{answer}");
        answer["data"].take()
    }

    /// Units `plant:1` to `plant:units` and provider `p`.
    pub(crate) async fn prepare(&self, units: usize) -> Value {
        let units: Vec<Value> = (1..=units)
            .map(|n| json!({ "key": format!("plant:{n}"), "timeZone": "Europe/Madrid" }))
            .collect();
        self.data(
            "mutation($units: [UnitInput!]!) {
                upsertUnits(input: { units: $units }) { position }
                upsertProviders(input: { providers: [{ key: \"p\" }] }) { position }
            }",
            json!({ "units": units }),
        )
        .await["upsertProviders"]["position"]
            .take()
    }

    /// Saves the first hour of May 2024 of `plant:1`; the change's position.
    pub(crate) async fn save_hour(&self, mwh: u32) -> String {
        let saved = self.data(SAVE_HOUR, json!({ "mwh": [mwh] })).await;
        let position = saved["saveForecasts"]["position"].as_str();
        position.unwrap().to_owned()
    }

    /// Opens a graphql-transport-ws connection and subscribes.
    pub(crate) async fn subscribe(&self, query: &str, variables: Value) -> Socket {
        self.try_subscribe(query, variables).await.unwrap()
    }

    pub(crate) async fn try_subscribe(
        &self,
        query: &str,
        variables: Value,
    ) -> Result<Socket, tungstenite::Error> {
        let mut socket = self.try_connect(Value::Null).await?;
        socket.start("1", query, variables).await?;
        Ok(socket)
    }

    /// Opens a websocket of a subprotocol, and says nothing.
    pub(crate) async fn open_socket(
        &self,
        protocol: Option<&str>,
    ) -> Result<Socket, tungstenite::Error> {
        self.open_socket_as(protocol, None).await
    }

    /// The same with an `Authorization` header.
    pub(crate) async fn open_socket_as(
        &self,
        protocol: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("ws://{}/graphql/ws", self.address).into_client_request()?;
        if let Some(authorization) = authorization {
            let authorization = authorization.parse().unwrap();
            request.headers_mut().insert("authorization", authorization);
        }
        if let Some(protocol) = protocol {
            let protocol = protocol.parse().unwrap();
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol);
        }
        let (stream, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Socket { stream })
    }

    /// Opens a graphql-transport-ws connection, with what its init says.
    pub(crate) async fn try_connect(&self, init: Value) -> Result<Socket, tungstenite::Error> {
        let mut socket = self.open_socket(Some("graphql-transport-ws")).await?;
        let init = match init {
            Value::Null => json!({ "type": "connection_init" }),
            payload => json!({ "type": "connection_init", "payload": payload }),
        };
        socket.send(init).await?;
        let ack = socket.receive().await?;
        assert_eq!(ack["type"], "connection_ack", "{ack}");
        Ok(socket)
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn event_stream(
        &self,
        query: &str,
        variables: Value,
        last_event_id: Option<&str>,
    ) -> Result<EventStream, reqwest::Error> {
        let body = json!({ "query": query, "variables": variables });
        let mut request = self
            .http
            .post(self.url("/graphql"))
            .header("accept", "text/event-stream")
            .json(&body);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        Ok(EventStream::of(request.send().await?))
    }

    /// The status and text at a path.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The status and JSON at a path.
    pub(crate) async fn get_json(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.get(path).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    /// A metric by its name, summed over its labels, or one of its samples by
    /// name and labels as they stand there; 0 for what has not been counted.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(sample, _)| *sample == name || sample.split('{').next() == Some(name))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }
}

/// The code of the only error of an answer.
#[track_caller]
pub(crate) fn code(answer: &Value) -> &str {
    let errors = answer["errors"].as_array();
    assert_eq!(errors.map(Vec::len), Some(1), "{answer}");
    answer["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("no code: {answer}"))
}

/// An answer of server-sent events.
pub(crate) struct EventStream {
    response: reqwest::Response,
    text: String,
}

/// One block of an event stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerEvent {
    pub(crate) event: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) data: Option<String>,
}

impl EventStream {
    pub(crate) fn of(response: reqwest::Response) -> Self {
        Self {
            response,
            text: String::new(),
        }
    }

    pub(crate) fn response(&self) -> &reqwest::Response {
        &self.response
    }

    /// The next block, whatever is in it; `None` at the end.
    pub(crate) async fn block(&mut self) -> Option<ServerEvent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut event = ServerEvent::default();
                for line in block.lines() {
                    let (name, value) = line.split_once(':').unwrap();
                    let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                    match name {
                        "event" => event.event = Some(value),
                        "id" => event.id = Some(value),
                        "data" => event.data = Some(value),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event that a client is told of.
    pub(crate) async fn event(&mut self) -> Option<ServerEvent> {
        loop {
            let block = self.block().await?;
            if block.data.is_some() {
                return Some(block);
            }
        }
    }

    /// The next result, which must come.
    pub(crate) async fn result(&mut self) -> Value {
        let event = self.event().await.expect("a result");
        assert_eq!(event.event.as_deref(), Some("next"), "{event:?}");
        serde_json::from_str(&event.data.unwrap()).unwrap()
    }
}

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn send(&mut self, message: Value) -> Result<(), tungstenite::Error> {
        self.stream.send(Message::text(message.to_string())).await
    }

    async fn receive(&mut self) -> Result<Value, tungstenite::Error> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(_))) | None => {
                    return Err(tungstenite::Error::ConnectionClosed);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Begins an operation.
    pub(crate) async fn start(
        &mut self,
        id: &str,
        query: &str,
        variables: Value,
    ) -> Result<(), tungstenite::Error> {
        let payload = json!({ "query": query, "variables": variables });
        self.send(json!({ "type": "subscribe", "id": id, "payload": payload }))
            .await
    }

    /// Ends an operation from this side.
    pub(crate) async fn unsubscribe(&mut self, id: &str) {
        self.send(json!({ "type": "complete", "id": id }))
            .await
            .unwrap();
    }

    /// The next message, whatever it is.
    pub(crate) async fn message(&mut self) -> Result<Value, tungstenite::Error> {
        self.receive().await
    }

    /// How the server closes the connection, whatever it says before.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Close(frame)) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The payload of the next result, errors and all.
    pub(crate) async fn next(&mut self) -> Result<Value, tungstenite::Error> {
        let mut message = self.receive().await?;
        match message["type"].as_str() {
            Some("next") => Ok(message["payload"].take()),
            Some("error") => Ok(json!({ "errors": message["payload"].take() })),
            _ => panic!("{message}"),
        }
    }

    /// The data of the next result, which must have no errors.
    pub(crate) async fn data(&mut self) -> Value {
        let mut payload = self.next().await.unwrap();
        assert_eq!(payload["errors"], Value::Null, "{payload}");
        payload["data"].take()
    }
}
