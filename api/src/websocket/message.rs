//! The messages of graphql-transport-ws:
//! <https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverWebSocket.md>.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::graphql::params::Params;
use crate::graphql::persisted::HashOnly;

/// The subprotocol's name.
pub(crate) const PROTOCOL: &str = "graphql-transport-ws";

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    ConnectionInit {
        #[serde(default)]
        payload: Option<Map<String, Value>>,
    },
    Ping {
        #[serde(default)]
        payload: Option<Map<String, Value>>,
    },
    Pong {
        #[serde(default)]
        #[expect(dead_code, reason = "it must be an object all the same")]
        payload: Option<Map<String, Value>>,
    },
    Subscribe {
        id: String,
        payload: Params,
    },
    /// A `Subscribe` with a hash in place of the operation.
    #[serde(skip)]
    SubscribeByHash {
        id: String,
    },
    Complete {
        id: String,
    },
}

/// As much of a `Subscribe` as says that it has only a hash.
#[derive(Deserialize)]
#[serde(tag = "type", rename = "subscribe")]
struct ByHash {
    id: String,
    payload: HashOnly,
}

impl ClientMessage {
    /// Reads a message; what is wrong with it, if it is none.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let message = serde_json::from_str(text).or_else(|error| {
            match serde_json::from_str::<ByHash>(text) {
                Ok(ByHash { id, payload }) if payload.has_hash() => {
                    Ok(Self::SubscribeByHash { id })
                }
                _ => Err(error.to_string()),
            }
        })?;
        match &message {
            Self::Subscribe { id, .. } | Self::SubscribeByHash { id } | Self::Complete { id }
                if id.is_empty() =>
            {
                Err("the id is empty".to_owned())
            }
            _ => Ok(message),
        }
    }
}

pub(super) const ACK: &str = r#"{"type":"connection_ack"}"#;
pub(super) const PING: &str = r#"{"type":"ping"}"#;

/// The answer to a ping, with what it carried.
pub(super) fn pong(payload: Option<&Map<String, Value>>) -> String {
    match payload {
        None => String::from(r#"{"type":"pong"}"#),
        Some(payload) => serde_json::json!({ "type": "pong", "payload": payload }).to_string(),
    }
}

/// A message of the kind `{"type":…,"id":…,"payload":…}`; `write` writes the
/// payload, of about `len` bytes.
pub(super) fn of_operation(
    kind: &str,
    id: &Id,
    len: usize,
    write: impl FnOnce(&mut String),
) -> String {
    let mut text = String::with_capacity(kind.len() + id.json.len() + len + 48);
    text.push_str("{\"type\":\"");
    text.push_str(kind);
    text.push_str("\",\"id\":");
    text.push_str(&id.json);
    text.push_str(",\"payload\":");
    write(&mut text);
    text.push('}');
    text
}

pub(super) fn complete(id: &Id) -> String {
    format!("{{\"type\":\"complete\",\"id\":{}}}", id.json)
}

/// An operation's id, as JSON text, which every message about it carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Id {
    json: std::sync::Arc<str>,
}

impl Id {
    pub(super) fn new(id: &str) -> Self {
        Self {
            json: Value::from(id).to_string().into(),
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) code: u16,
    reason: String,
}

/// A close frame carries at most so many bytes of reason.
const LONGEST_REASON: usize = 123;

impl Closing {
    pub(super) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Self { code, reason }
    }

    pub(super) fn invalid(what: &str) -> Self {
        Self::new(4400, format!("Invalid message: {what}"))
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(4401, "Unauthorized")
    }

    pub(super) fn forbidden(why: &str) -> Self {
        Self::new(4403, format!("Forbidden: {why}"))
    }

    /// Clients come back by themselves.
    pub(super) fn try_again(why: &str) -> Self {
        Self::new(1013, format!("Try again later: {why}"))
    }

    pub(super) fn unknown_protocol() -> Self {
        Self::new(4406, "Subprotocol not acceptable")
    }

    pub(super) fn init_timeout() -> Self {
        Self::new(4408, "Connection initialisation timeout")
    }

    pub(super) fn duplicate(id: &str) -> Self {
        Self::new(4409, format!("Subscriber for {id} already exists"))
    }

    pub(super) fn init_repeated() -> Self {
        Self::new(4429, "Too many initialisation requests")
    }

    pub(super) fn too_big() -> Self {
        Self::new(1009, "Message too big")
    }

    /// Clients retry it at once.
    pub(super) fn restart(seen: Option<domain::change::Position>) -> Self {
        match seen {
            Some(position) => Self::new(1012, format!("Service restart at {position}")),
            None => Self::new(1012, "Service restart"),
        }
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_the_protocol_are_read() {
        for text in [
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":null}"#,
            r#"{"type":"connection_init","payload":{"a":1}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"pong","payload":{}}"#,
            r#"{"id":"1","payload":{"query":"{a}"},"type":"subscribe"}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":null,"operationName":null,"extensions":null}}"#,
            r#"{"type":"complete","id":"1"}"#,
        ] {
            assert!(ClientMessage::read(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#""ping""#,
            r#"{"type":"connection_ack"}"#,
            r#"{"type":"connection_init","payload":[]}"#,
            r#"{"type":"connection_init","payload":"a"}"#,
            r#"{"type":"ping","payload":1}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":1}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"complete","id":""}"#,
            "{\"type\":\"ping\"} {\"type\":\"ping\"}",
        ] {
            assert!(ClientMessage::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        let closing = Closing::duplicate(&"é".repeat(100));
        assert!(closing.reason().len() <= LONGEST_REASON);
        assert!(closing.reason().starts_with("Subscriber for éé"));
    }

    #[test]
    fn an_id_is_written_as_it_was_given() {
        let id = Id::new("a\"\\\u{1}");
        let text = of_operation("next", &id, 2, |text| text.push_str("{}"));
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read,
            serde_json::json!({ "type": "next", "id": "a\"\\\u{1}", "payload": {} })
        );
    }
}
