//! Errors as gRPC statuses.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{Code, Error};

/// Where gRPC's clients look for the time to wait before they try again (gRFC A6); what was refused at once has it.
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Longer messages are cut, as TensorFlow Serving cuts them: they travel in headers.
const MAX_MESSAGE: usize = 1024;
const CUT: &str = "...TRUNCATED";

/// `error` as gRPC says it.
pub(super) fn status(error: &Error) -> tonic::Status {
    let mut message = error.message().to_owned();
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str(CUT);
    }
    let code = tonic::Code::from_i32(error.code() as i32);
    match error.wait() {
        None => tonic::Status::new(code, message),
        Some(wait) => {
            let details = ErrorDetails::with_retry_info(Some(wait));
            tonic::Status::with_error_details_and_metadata(code, message, details, pushback(wait))
        }
    }
}

fn pushback(wait: Duration) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert(PUSHBACK, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1).into());
    metadata
}

/// The canonical code of a status.
pub(super) fn code(status: &tonic::Status) -> Code {
    match status.code() {
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Internal => Code::Internal,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::Ok | tonic::Code::Unknown => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_when_to_come_again() {
        let wait = Duration::from_millis(1250);
        let refused = status(&Error::unavailable("full").retry_after(wait));
        assert_eq!((refused.code(), refused.message()), (tonic::Code::Unavailable, "full"));
        assert_eq!(refused.metadata().get(PUSHBACK).expect("a hint"), "1250");
        assert_eq!(refused.get_details_retry_info().and_then(|info| info.retry_delay), Some(wait));
        let plain = status(&Error::unavailable("gone"));
        assert!(plain.metadata().is_empty() && plain.details().is_empty());
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let status = status(&Error::internal("ä".repeat(600)));
        assert_eq!(status.message().len(), MAX_MESSAGE + CUT.len());
        assert!(status.message().ends_with(CUT));
    }
}
