//! Replies, and errors as this API shows them.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::json::write_string;
use crate::error::{Code, Error};

/// When it may be worth to ask again what was refused for want of room, where that is not known better.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a request is not answered.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// For what the error's code says.
    Failed(Error),
    /// Its body is larger than any may be.
    TooLarge(Error),
}

impl Refusal {
    /// The error in either case.
    pub(super) fn error(&self) -> &Error {
        let (Self::Failed(error) | Self::TooLarge(error)) = self;
        error
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is sent back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// In place of the type of JSON, or besides.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// JSON text.
    pub(super) fn json(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, body: body.into(), headers: Vec::new() }
    }

    /// An error.
    pub(super) fn error(error: &Error) -> Self {
        let mut body = Vec::with_capacity(error.message().len() + 16);
        body.extend_from_slice(b"{\"error\":");
        write_string(error.message(), &mut body);
        body.push(b'}');
        let status = status(error.code());
        let is_full = matches!(error.code(), Code::ResourceExhausted | Code::Unavailable);
        // Whole seconds, the next ones: the header knows no fractions.
        let seconds = |wait: Duration| u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        let wait = is_full.then(|| seconds(error.wait().unwrap_or(RETRY_AFTER)));
        let asks = error.code() == Code::Unauthenticated;
        let headers = wait.map(|wait| (header::RETRY_AFTER, HeaderValue::from(wait)));
        let headers = headers.or(asks.then_some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))));
        Self { status, body: body.into(), headers: headers.into_iter().collect() }
    }

    /// What becomes of a request that is not answered.
    pub(super) fn refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Failed(error) => Self::error(error),
            // To come again is of no use.
            Refusal::TooLarge(error) => {
                Self { status: StatusCode::PAYLOAD_TOO_LARGE, headers: Vec::new(), ..Self::error(error) }
            }
        }
    }

    /// As HTTP has it.
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What is not found outside this API.
pub(super) fn not_found() -> Response<Body> {
    const PAGE: &str = "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n";
    let mut response = Response::new(Body::from(PAGE));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

/// The status that TensorFlow Serving gives a code.
fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // The client has closed its request.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_objects() {
        let reply = Reply::error(&Error::unavailable("a \"full\" queue\n"));
        assert_eq!(reply.body, r#"{"error":"a \"full\" queue\n"}"#);
        let response = reply.response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(Reply::error(&Error::cancelled("")).status.as_u16(), 499);
        let late = Error::resource_exhausted("").retry_after(Duration::from_millis(1001));
        assert_eq!(Reply::error(&late).response().headers()[header::RETRY_AFTER], "2");
        let large = Reply::refusal(&Refusal::TooLarge(Error::resource_exhausted("much"))).response();
        assert_eq!((large.status().as_u16(), large.headers().get(header::RETRY_AFTER)), (413, None));
    }
}
