//! From the head of a request to an answer.

use std::fmt;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Error, Request, Status};
use log::Level;

use crate::logging::Printable;

/// The longest head that is read.
pub(super) const LONGEST_HEAD: usize = 8 * 1024;
/// The most header fields of a request.
const MOST_HEADERS: usize = 64;

/// A question for the main loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether every file is published and valid: an error is the reason why not.
    Ready,
    /// The metrics, as text.
    Metrics,
}

/// Answers a [`Question`]; an error is a 503 with the reason.
pub(crate) type Ask<'a> = dyn FnMut(Question) -> Result<String, NotReady> + 'a;

/// Why the files are not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotReady {
    pub(crate) cause: String,
    /// For how long, if that is known. It is no change of the cause.
    pub(crate) lasts: Option<Duration>,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        match self.lasts.map(|lasts| lasts.as_secs()) {
            Some(seconds @ 1..) => write!(f, ", for {seconds}s"),
            _ => Ok(()),
        }
    }
}

/// The last answers of /ready: each change is a log line.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    logged: Option<Result<(), String>>,
    /// How many causes were logged since it was ready.
    causes: usize,
}

/// So many causes are logged until it is ready: an agent may never say the same twice.
const MOST_CAUSES: usize = 8;

impl Readiness {
    fn log(&mut self, answer: &Result<String, NotReady>) {
        let answer = answer.as_ref().map(|_| ()).map_err(|reason| reason.cause.clone());
        if self.logged.as_ref() == Some(&answer) {
            return;
        }
        // At the start, it is normal that nothing is published yet.
        let level = if self.logged.is_some() { Level::Warn } else { Level::Info };
        match &answer {
            Ok(()) => {
                self.causes = 0;
                log::info!("/ready answers 200");
            }
            Err(_) if self.causes >= MOST_CAUSES => return,
            Err(reason) => {
                self.causes += 1;
                log::log!(level, "/ready answers 503: {reason}");
            }
        }
        self.logged = Some(answer);
    }
}

/// The answer to the head of a request, or nothing while the head is not complete.
pub(crate) fn answer(received: &[u8], readiness: &mut Readiness, ask: &mut Ask<'_>) -> Option<Vec<u8>> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    let answer = match request.parse(received) {
        Ok(Status::Partial) if received.len() < LONGEST_HEAD => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Answer::plain("431 Request Header Fields Too Large")
        }
        // HTTP/2 among them.
        Err(Error::Version) => Answer::plain("505 HTTP Version Not Supported"),
        Err(_) => Answer::plain("400 Bad Request"),
        Ok(Status::Complete(_)) => match request.method {
            Some("GET" | "HEAD") => page(path(request.path.unwrap_or_default()), readiness, ask),
            _ => Answer { allow: "Allow: GET, HEAD\r\n", ..Answer::plain("405 Method Not Allowed") },
        },
    };
    Some(answer.write(request.method != Some("HEAD")))
}

/// The path alone: without scheme and authority (RFC 9112, section 3.2.2), and without query.
fn path(target: &str) -> &str {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    path.split('?').next().unwrap_or_default()
}

fn page(path: &str, readiness: &mut Readiness, ask: &mut Ask<'_>) -> Answer {
    let question = match path {
        "/live" => return Answer::plain("200 OK"),
        "/ready" => Question::Ready,
        "/metrics" => Question::Metrics,
        _ => return Answer::plain("404 Not Found"),
    };
    let answered = ask(question);
    if question == Question::Ready {
        readiness.log(&answered);
    }
    match (question, answered) {
        (Question::Ready, Ok(_)) => Answer::plain("200 OK"),
        (Question::Metrics, Ok(text)) => {
            Answer { media_type: METRICS, body: text, ..Answer::plain("200 OK") }
        }
        (_, Err(reason)) => {
            Answer { body: format!("{}\n", Printable(reason)), ..Answer::plain("503 Service Unavailable") }
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Answer {
    status: &'static str,
    media_type: &'static str,
    /// A header line, or nothing.
    allow: &'static str,
    body: String,
}

impl Answer {
    /// The status is the body too.
    fn plain(status: &'static str) -> Self {
        Self { status, media_type: TEXT, allow: "", body: format!("{status}\n") }
    }

    fn write(&self, with_body: bool) -> Vec<u8> {
        let Self { status, media_type, allow, body } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        (head + if with_body { body } else { "" }).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: Question) -> Result<String, NotReady> {
        match question {
            Question::Ready => Err(NotReady { cause: "token.jwt\nis missing".to_owned(), lasts: None }),
            Question::Metrics => Ok("a 1\n".to_owned()),
        }
    }

    fn answer_to(request: &[u8]) -> Option<String> {
        let answer = answer(request, &mut Readiness::default(), &mut ask);
        answer.map(|answer| String::from_utf8(answer).unwrap())
    }

    fn status_of(request: &[u8]) -> String {
        let answer = answer_to(request).unwrap();
        answer.strip_prefix("HTTP/1.1 ").unwrap()[..3].to_owned()
    }

    #[test]
    fn a_head_that_is_not_complete_has_no_answer_yet() {
        for request in ["", "G", "GET /live HTTP/1.1", "GET /live HTTP/1.1\r\nHost: here\r\n"] {
            assert_eq!(answer_to(request.as_bytes()), None, "{request}");
        }
    }

    #[test]
    fn each_path_has_its_status() {
        for (target, status) in [
            ("/live", "200"),
            ("/live?verbose", "200"),
            ("http://10.0.0.1:8081/live", "200"),
            ("/ready", "503"),
            ("/metrics", "200"),
            ("/", "404"),
            ("/live/", "404"),
            ("*", "404"),
            ("http://10.0.0.1", "404"),
        ] {
            assert_eq!(status_of(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()), status, "{target}");
        }
    }

    #[test]
    fn other_requests_are_refused() {
        let long = format!("GET /live HTTP/1.1\r\na: {}", "b".repeat(LONGEST_HEAD));
        let many = format!("GET /live HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MOST_HEADERS + 1));
        for (request, status) in [
            (b"POST /live HTTP/1.1\r\n\r\n".as_slice(), "405"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
            (b"\x16\x03\x01\x02\x00\x01\x00", "400"),
            (b"GET\0/live HTTP/1.1\r\n\r\n", "400"),
            (&long.as_bytes()[..LONGEST_HEAD], "431"),
            (many.as_bytes(), "431"),
        ] {
            assert_eq!(status_of(request), status, "{}", String::from_utf8_lossy(request));
        }
    }

    #[test]
    fn an_answer_says_its_length_and_closes() {
        assert_eq!(
            answer_to(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 4\r\nCache-Control: no-store\r\nConnection: close\r\n\r\na 1\n"
        );
    }

    #[test]
    fn head_has_the_same_headers_and_no_body() {
        let get = answer_to(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(answer_to(b"HEAD /metrics HTTP/1.0\r\n\r\n").unwrap(), get.strip_suffix("a 1\n").unwrap());
    }

    #[test]
    fn the_reason_is_the_body_on_one_line() {
        let answer = answer_to(b"GET /ready HTTP/1.1\r\n\r\n").unwrap();
        assert!(answer.ends_with("\r\n\r\ntoken.jwt\\nis missing\n"), "{answer}");
    }
}
