//! Asking a server for a file, or for the rest of one.
//!
//! A server may know nothing of ranges, have another file by now, send less or more than it said, or nothing at all.
//! Here each answer is held against what was asked; what to do about it is [`download`](super::download)'s part.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use tokio::time;
use url::Url;

use super::Trouble;
use super::part::is_strong;
use super::source::{is_safe, may_follow};
use super::trouble::{host, is_passing};

/// How often a server may send us on: hosts of models do once or twice.
const REDIRECTS_MAX: usize = 5;

/// The longest that a server may ask us to wait before the next try; a guess at how long people look at it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How long a server is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, for the beginning of an answer, and between any two of its bytes.
    pub silence: Duration,
    /// Before the second try; before each further one twice as long.
    pub first_retry: Duration,
    /// How many tries in a row may bring nothing new.
    pub tries: u32,
}

impl Default for Patience {
    /// Phones lose a network for half a minute in a lift: tries at 0, 1, 3, 7, 15, 31 and 63 s.
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(20),
            first_retry: Duration::from_secs(1),
            tries: 7,
        }
    }
}

/// Servers, and how to speak to them.
#[derive(Debug, Clone)]
pub struct Servers {
    client: Client,
    patience: Patience,
}

/// What a server is asked for: a file from some byte on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Where.
    pub url: &'a Url,
    /// Bytes that are here already.
    pub from: u64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// Which version of the file those that are here belong to.
    pub etag: Option<&'a str>,
}

/// What a server answers with.
#[derive(Debug)]
pub struct Answer {
    /// The byte that it begins with: the one asked for, or the first of all.
    pub from: u64,
    /// Which version of the file it is.
    pub etag: Option<String>,
    response: Response,
    url: Url,
    silence: Duration,
}

/// Why a server's answer is of no use.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub trouble: Trouble,
    /// What may help.
    pub remedy: Remedy,
}

/// What may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    None,
    /// To ask again for the rest, after some time at least.
    Again(Duration),
    /// To ask again for all of it.
    FromTheStart,
}

impl Servers {
    /// Sets up TLS with the roots that Mozilla trusts.
    pub fn new(patience: Patience) -> Self {
        let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring serves the protocol versions that rustls has by default")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("LinguaLinked/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.silence)
            .redirect(Policy::custom(follow))
            .referer(false)
            .build();

        Self {
            client: client.expect("TLS is set up, and nothing else can fail"),
            patience,
        }
    }

    /// Returns how long servers are waited for.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Asks for a file, or for the rest of one.
    ///
    /// # Errors
    ///
    /// A [`Failure`] if the answer is of no use.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, Failure> {
        let url = question.url;
        if !is_safe(url) {
            return Err(none(Trouble::Insecure { host: host(url) }));
        }

        let request = self
            .client
            .get(url.clone())
            .headers(headers(question))
            .send();
        let response = match time::timeout(self.patience.silence, request).await {
            Err(_) => return Err(again(Trouble::unreachable(url, "it does not answer"))),
            Ok(Err(error)) if error.is_redirect() => {
                return Err(none(Trouble::Astray { host: host(url) }));
            }
            Ok(Err(error)) => return Err(again(Trouble::unreachable(url, reason(&error)))),
            Ok(Ok(response)) => response,
        };

        Ok(Answer {
            from: begins_at(question, &response)?,
            etag: etag(response.headers()),
            response,
            url: url.clone(),
            silence: self.patience.silence,
        })
    }
}

impl Answer {
    /// Returns the next bytes; `None` where the answer ends, whether or not that is the end of the file.
    ///
    /// # Errors
    ///
    /// A [`Failure`] if nothing comes for too long, or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        match time::timeout(self.silence, self.response.chunk()).await {
            Err(_) => Err(again(Trouble::unreachable(
                &self.url,
                "it has fallen silent",
            ))),
            Ok(Err(error)) => {
                tracing::debug!(error = reason(&error), "A connection breaks");
                Err(again(Trouble::BreaksOff {
                    host: host(&self.url),
                }))
            }
            Ok(Ok(bytes)) => Ok(bytes),
        }
    }
}

fn headers(question: Question<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Bytes are counted and hashed as they lie in the file.
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );

    if question.from > 0 {
        let range = HeaderValue::from_str(&format!("bytes={}-", question.from));
        headers.insert(header::RANGE, range.expect("digits are fine in a header"));
        let etag = question
            .etag
            .and_then(|etag| HeaderValue::from_str(etag).ok());
        if let Some(etag) = etag {
            headers.insert(header::IF_RANGE, etag);
        }
    }

    headers
}

/// Returns the byte that an answer begins with.
fn begins_at(question: Question<'_>, response: &Response) -> Result<u64, Failure> {
    let Question {
        url, file_bytes, ..
    } = question;
    let wrong_length = |found| {
        none(Trouble::WrongLength {
            host: host(url),
            found,
            expected: file_bytes,
        })
    };
    let refused = |status: StatusCode| Trouble::Refused {
        host: host(url),
        status: status.as_u16(),
    };

    match response.status() {
        StatusCode::OK => match response.content_length() {
            Some(found) if found != file_bytes => Err(wrong_length(found)),
            _ => Ok(0),
        },
        status @ StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
            Some((_, Some(found))) if found != file_bytes => Err(wrong_length(found)),
            Some((from, _)) if from == question.from => Ok(from),
            _ => Err(from_the_start(refused(status))),
        },
        status @ StatusCode::RANGE_NOT_SATISFIABLE => Err(from_the_start(refused(status))),
        // One that could be followed has been.
        status if status.is_redirection() => Err(none(Trouble::Astray { host: host(url) })),
        status if is_passing(status.as_u16()) => Err(Failure {
            trouble: refused(status),
            remedy: Remedy::Again(retry_after(response.headers())),
        }),
        status => Err(none(refused(status))),
    }
}

/// Reads `bytes 5-9/10` as (5, 10); the length may be `*`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;

    match whole {
        "*" => Some((from, None)),
        whole => Some((from, Some(whole.parse().ok()?))),
    }
}

fn etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?;

    is_strong(etag).then(|| etag.to_owned())
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());

    Duration::from_secs(seconds.unwrap_or(0)).min(RETRY_AFTER_MAX)
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_right = match attempt.previous() {
        previous if previous.len() > REDIRECTS_MAX => false,
        previous => previous
            .last()
            .is_some_and(|from| may_follow(from, attempt.url())),
    };

    if is_right {
        attempt.follow()
    } else {
        attempt.error("not to be followed")
    }
}

/// Returns what is at the bottom of an error, without the address, which people have not typed.
fn reason(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }

    deepest.to_string()
}

fn none(trouble: Trouble) -> Failure {
    Failure {
        trouble,
        remedy: Remedy::None,
    }
}

fn again(trouble: Trouble) -> Failure {
    Failure {
        trouble,
        remedy: Remedy::Again(Duration::ZERO),
    }
}

fn from_the_start(trouble: Trouble) -> Failure {
    Failure {
        trouble,
        remedy: Remedy::FromTheStart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_not_believed() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("bytes -9/10", None),
            ("bytes 5-9/ten", None),
            ("bytes 99999999999999999999-9/10", None),
            ("lines 5-9/10", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
            assert_eq!(content_range(&headers), expected, "{text}");
        }
    }
}
