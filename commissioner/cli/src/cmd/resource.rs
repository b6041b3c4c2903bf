//! A resource on the command line: its path, and what a server answers.

use std::fmt;

use commissioner::client::Response;
use serde::Serialize;

use super::{
    context::Context,
    exit::{CommandError, ExitCode},
};
use crate::edn;

/// A path with a leading slash, of segments and parameters that CoAP can carry. `slots/NAME` is a value of the product.
pub(super) fn parse_path(text: &str) -> Result<String, String> {
    if text.starts_with("slots/") {
        return parse_path(&format!("/comm/{text}"));
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let too_long = path.split('/').chain(query.split('&')).any(|part| part.len() > 255);
    match path.starts_with('/') && !too_long && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => {
            Err("a path begins with a slash, and none of its parts has more than 255 bytes: /comm/owner".to_owned())
        }
    }
}

impl Context {
    /// Shows a response of a device or a server, as a result if it is one and as an error (exit code 5) if it is a refusal.
    pub(super) fn show(&self, whom: &str, response: Response) -> Result<(), CommandError> {
        let refused = |refusal| CommandError::new(ExitCode::Refused, format!("the {whom} refused with {refusal}"));
        let answer = Answer::new(&response.success().map_err(refused)?);
        self.output.result(&answer, &answer);
        Ok(())
    }
}

/// What a device answered.
#[derive(Debug, Serialize)]
struct Answer {
    code: String,
    content_format: Option<u16>,
    /// As people read it.
    payload: String,
    payload_hex: String,
}

impl Answer {
    fn new(response: &Response) -> Self {
        Self {
            code: response.code.to_string(),
            content_format: response.content_format,
            payload: edn::show(&response.payload, response.content_format),
            payload_hex: hex::encode(&response.payload),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.payload.is_empty() { &self.code } else { &self.payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_a_slash() {
        for good in ["/comm", "/", "/comm/owner", "/.well-known/core?rt=core.edhoc"] {
            assert_eq!(parse_path(good).as_deref(), Ok(good));
        }
        assert_eq!(parse_path("slots/sender-id").as_deref(), Ok("/comm/slots/sender-id"));
        for bad in [
            "",
            "slots",
            "comm",
            "serial:/dev/ttyACM0",
            "/a\nb",
            &format!("/{}", "x".repeat(256)),
            &format!("/a?{}", "x".repeat(256)),
        ] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_without_payload_shows_its_code() {
        let answer = |payload: &[u8]| {
            Answer::new(&Response {
                code: commissioner::client::Code::CHANGED,
                content_format: Some(60),
                payload: payload.into(),
                max_age: std::time::Duration::ZERO,
            })
        };
        assert_eq!(answer(b"").to_string(), "2.04 Changed");
        assert_eq!(answer(b"\xa1\x01\x02").to_string(), "{1: 2}");
        assert_eq!(
            serde_json::to_string(&answer(b"\x01")).unwrap(),
            r#"{"code":"2.04 Changed","content_format":60,"payload":"1","payload_hex":"01"}"#
        );
    }
}
