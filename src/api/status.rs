//! Errors as gRPC statuses.

use crate::error::{Code, Error};

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
    tonic::Status::new(tonic::Code::from_i32(error.code() as i32), message)
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
    fn long_messages_are_cut_between_characters() {
        let status = status(&Error::internal("ä".repeat(600)));
        assert_eq!(status.message().len(), MAX_MESSAGE + CUT.len());
        assert!(status.message().ends_with(CUT));
    }
}
