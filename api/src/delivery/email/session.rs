//! One connection to the mail server, and what came of each mail it carried.
//!
//! lettre's own transport tells that the line broke, but not when. Here each
//! command is a step of its own, so it is known: before the content was sent the
//! server cannot have taken the mail, and trying again is safe. From then on it
//! may have.

use std::fmt;
use std::time::Duration;

use domain::notification::Outcome;
use lettre::Address;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailCommand, Noop, Rcpt, Rset};
use lettre::transport::smtp::extension::{Extension, MailParameter};
use tokio::time::timeout;

use super::smtp_url::{Encryption, Server};

/// Servers look for viruses and spam before they answer to a mail's content. To
/// give up on them leaves open whether it was taken, so they get this many times
/// the patience.
const CONTENT_PATIENCE: u32 = 5;

/// What a server says of a mail is kept up to here.
const LONGEST_ANSWER: usize = 500;

/// The codes that say of an address that there is nobody (RFC 3463, RFC 7505):
/// unknown mailbox, one that moved away, a domain without mail.
const NO_SUCH_MAILBOX: [&str; 3] = ["5.1.1", "5.1.6", "5.1.10"];

/// The codes by which a server wants another login than it got (RFC 4954).
const LOGIN: [u16; 4] = [530, 534, 535, 538];

/// What a server says before it closes the connection.
const CLOSING: u16 = 421;

/// A mail, ready to be sent.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) from: Address,
    pub(super) to: Address,
    /// Headers and body. All ASCII: the body is encoded.
    pub(super) content: String,
}

/// There is no connection to the mail server. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    // Its own text tells its source already.
    #[error("the mail server cannot be used: {0}")]
    Smtp(smtp::Error),
    #[error("the mail server did not answer within {0:?}")]
    TimedOut(Duration),
}

/// How far a mail had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Sender,
    Recipient,
    Data,
    /// The server may have taken it.
    Content,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
            Self::Content => "the content",
        })
    }
}

/// A mail was not taken, or nobody knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The server answered with an error.
    Refused {
        stage: Stage,
        code: u16,
        text: String,
    },
    /// It did not answer, or not as SMTP has it.
    Broken { stage: Stage, reason: String },
    /// The address is not ASCII, and the server takes no other.
    NotAscii,
}

impl SendError {
    /// Whether the connection can carry another mail after this one.
    pub(super) fn leaves_session(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code != CLOSING,
            Self::Broken { .. } => false,
            Self::NotAscii => true,
        }
    }

    /// Whether the connection was found closed before anything of this mail was
    /// sent: no fault of the mail.
    pub(super) fn found_closed(&self) -> bool {
        match self {
            Self::Refused { stage, code, .. } => *stage == Stage::Sender && *code == CLOSING,
            Self::Broken { stage, .. } => *stage == Stage::Sender,
            Self::NotAscii => false,
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        let failed = |reason| Outcome::Failed {
            reason,
            retry_after: None,
        };
        match self {
            Self::Refused { stage, code, text } => {
                let reason = shorten(format!("{code} {text}"));
                let enhanced = text.split_whitespace().next().unwrap_or_default();
                match code {
                    500.. if LOGIN.contains(&code) => failed(reason),
                    // Of the sender these codes say something else.
                    500.. if stage != Stage::Sender && NO_SUCH_MAILBOX.contains(&enhanced) => {
                        Outcome::Gone { reason }
                    }
                    500.. => Outcome::Rejected { reason },
                    _ => failed(reason),
                }
            }
            Self::Broken { stage, reason } => {
                let reason = shorten(format!("no answer to {stage}: {reason}"));
                match stage {
                    Stage::Sender | Stage::Recipient | Stage::Data => failed(reason),
                    Stage::Content => Outcome::Unknown { reason },
                }
            }
            Self::NotAscii => Outcome::Rejected {
                reason: "the mail server takes no address with letters outside ASCII".to_owned(),
            },
        }
    }
}

/// A connection that is logged in.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    patience: Duration,
    /// Whether it has carried mails before: then it may have been closed since.
    pub(super) used: bool,
}

impl Session {
    pub(super) async fn open(
        server: &Server,
        tls: &TlsParameters,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        match timeout(patience, connect(server, tls)).await {
            Ok(Ok(connection)) => Ok(Self {
                connection,
                patience,
                used: false,
            }),
            Ok(Err(error)) => Err(OpenError::Smtp(error)),
            Err(_) => Err(OpenError::TimedOut(patience)),
        }
    }

    /// Sends a mail: what the server answered when it took it.
    pub(super) async fn send(&mut self, mail: &Mail) -> Result<String, SendError> {
        let mut parameters = Vec::new();
        if ![&mail.from, &mail.to].into_iter().all(is_ascii) {
            let server = self.connection.server_info();
            if !server.supports_feature(Extension::SmtpUtfEight) {
                return Err(SendError::NotAscii);
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let sender = MailCommand::new(Some(mail.from.clone()), parameters);
        self.step(Stage::Sender, sender).await?;
        let recipient = Rcpt::new(mail.to.clone(), Vec::new());
        self.step(Stage::Recipient, recipient).await?;
        self.step(Stage::Data, Data).await?;
        self.step(Stage::Content, Content(&mail.content)).await
    }

    /// Makes it ready for another mail after one that was refused.
    pub(super) async fn reset(&mut self) -> bool {
        let reset = timeout(self.patience, self.connection.command(Rset)).await;
        matches!(reset, Ok(Ok(_)))
    }

    /// Whether the server is still there.
    pub(super) async fn is_alive(&mut self) -> bool {
        let answer = timeout(self.patience, self.connection.command(Noop)).await;
        matches!(answer, Ok(Ok(_)))
    }

    /// Takes leave of the server.
    pub(super) async fn quit(mut self) {
        // If it does not answer, it notices that the connection is closed.
        drop(timeout(self.patience, self.connection.quit()).await);
    }

    async fn step(
        &mut self,
        stage: Stage,
        command: impl fmt::Display,
    ) -> Result<String, SendError> {
        let broken = |reason| Err(SendError::Broken { stage, reason });
        let (patience, expected) = match stage {
            Stage::Sender | Stage::Recipient => (self.patience, 200..300),
            Stage::Data => (self.patience, 300..400),
            Stage::Content => (self.patience * CONTENT_PATIENCE, 200..300),
        };
        let response = match timeout(patience, self.connection.command(command)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return match error.status() {
                    Some(code) => Err(SendError::Refused {
                        stage,
                        code: code.into(),
                        text: source_text(&error),
                    }),
                    None => broken(error.to_string()),
                };
            }
            Err(_) => return broken(format!("timed out after {patience:?}")),
        };
        let code = u16::from(response.code());
        let text = response.message().collect::<Vec<_>>().join(" ");
        let answer = shorten(format!("{code} {text}"));
        if expected.contains(&code) {
            Ok(answer)
        } else {
            broken(format!("{answer} is none"))
        }
    }
}

async fn connect(server: &Server, tls: &TlsParameters) -> Result<AsyncSmtpConnection, smtp::Error> {
    let implicit = (server.encryption == Encryption::Implicit).then(|| tls.clone());
    let address = (server.host.as_str(), server.port);
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(address, None, &server.hello, implicit, None).await?;
    let encrypts = match server.encryption {
        Encryption::Never | Encryption::Implicit => false,
        Encryption::Opportunistic => connection.can_starttls(),
        Encryption::Required => true,
    };
    if encrypts {
        connection.starttls(tls.clone(), &server.hello).await?;
    }
    if let Some(credentials) = &server.credentials {
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        connection.auth(&mechanisms, credentials).await?;
    }
    Ok(connection)
}

/// A mail's content as it goes over the line: a dot more where a line begins with
/// one, and a dot alone at the end.
///
/// It goes with a single write. lettre's own writes the end apart: the kernel
/// holds that back until the server has confirmed the rest, which servers are in
/// no hurry to do, so each mail would take 40 ms longer.
struct Content<'a>(&'a str);

impl fmt::Display for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.split_inclusive('\n') {
            if line.starts_with('.') {
                f.write_str(".")?;
            }
            f.write_str(line)?;
        }
        if !self.0.ends_with("\r\n") {
            f.write_str("\r\n")?;
        }
        f.write_str(".\r\n")
    }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}

/// What the server said, without what lettre puts before it.
fn source_text(error: &smtp::Error) -> String {
    let source = std::error::Error::source(error);
    source.map(ToString::to_string).unwrap_or_default()
}

fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_ANSWER));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_becomes_of_the_mail() {
        let check = |stage, code, text: &str, expected| {
            let text = text.to_owned();
            let kind = match (SendError::Refused { stage, code, text }).outcome() {
                Outcome::Sent { .. } => "sent",
                Outcome::Failed { .. } | Outcome::Postponed { .. } => "failed",
                Outcome::Rejected { .. } => "rejected",
                Outcome::Gone { .. } => "gone",
                Outcome::Unknown { .. } => "unknown",
            };
            assert_eq!(kind, expected, "{stage:?} {code}");
        };
        check(Stage::Recipient, 450, "4.2.1 busy", "failed");
        check(Stage::Sender, 421, "closing", "failed");
        check(Stage::Content, 451, "greylisted", "failed");
        check(Stage::Content, 554, "5.7.1 spam", "rejected");
        check(Stage::Recipient, 550, "blocked", "rejected");
        check(Stage::Recipient, 550, "5.7.1 relaying denied", "rejected");
        check(Stage::Recipient, 552, "5.2.2 mailbox full", "rejected");
        check(Stage::Recipient, 550, "5.1.1 no such mailbox", "gone");
        check(Stage::Content, 550, "5.1.1 no such mailbox", "gone");
        check(Stage::Recipient, 556, "5.1.10 no mail here", "gone");
        check(Stage::Recipient, 550, "5.1.11 of no meaning", "rejected");
        check(Stage::Sender, 550, "5.1.1 who are you", "rejected");
        check(Stage::Sender, 530, "5.7.0 log in first", "failed");
    }

    #[test]
    fn only_once_the_content_was_sent_it_is_unknown_what_became_of_it() {
        let outcome = |stage| {
            let reason = String::new();
            SendError::Broken { stage, reason }.outcome()
        };
        for stage in [Stage::Sender, Stage::Recipient, Stage::Data] {
            assert!(
                matches!(outcome(stage), Outcome::Failed { .. }),
                "{stage:?}"
            );
        }
        assert!(matches!(outcome(Stage::Content), Outcome::Unknown { .. }));
    }

    #[test]
    fn content_ends_where_it_ends() {
        let check = |content, expected| assert_eq!(Content(content).to_string(), expected);
        check("a\r\n", "a\r\n.\r\n");
        check("a", "a\r\n.\r\n");
        check(".\r\n..b\r\nc.\r\n", "..\r\n...b\r\nc.\r\n.\r\n");
        check("a\n.\nRCPT", "a\n..\nRCPT\r\n.\r\n");
        check("", "\r\n.\r\n");
    }

    #[test]
    fn a_long_answer_is_shortened() {
        assert_eq!(shorten("ü".repeat(400)).len(), LONGEST_ANSWER);
        assert_eq!(shorten("short".to_owned()), "short");
    }
}
