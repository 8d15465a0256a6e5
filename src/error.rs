//! The one error type: a canonical code and a message, with no protocol in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Canonical status codes, as gRPC numbers them; each protocol maps them to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller gave up.
    Cancelled = 1,
    /// Nothing more is known.
    Unknown = 2,
    /// The request is wrong, whatever the state of the server.
    InvalidArgument = 3,
    /// The caller's deadline passed first.
    DeadlineExceeded = 4,
    /// The named thing does not exist.
    NotFound = 5,
    /// The named thing exists already.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A limit (memory, queue, quota) is reached.
    ResourceExhausted = 8,
    /// The server is not in a state in which the request can work.
    FailedPrecondition = 9,
    /// A concurrent change got in the way.
    Aborted = 10,
    /// A position is past the end.
    OutOfRange = 11,
    /// Not supported.
    Unimplemented = 12,
    /// A broken invariant: a defect of ours or of a driver.
    Internal = 13,
    /// Not now; trying again may work.
    Unavailable = 14,
    /// Stored data is damaged.
    DataLoss = 15,
    /// Credentials are missing.
    Unauthenticated = 16,
}

impl Code {
    /// The code's canonical name, e.g. `INVALID_ARGUMENT`.
    pub fn name(self) -> &'static str {
        match self {
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// What went wrong, for a person and for a program.
#[derive(Clone)]
pub struct Error {
    code: Code,
    message: String,
    /// When it may be worth to try again.
    wait: Option<Duration>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Shorthand used everywhere.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($name:ident => $code:ident),* $(,)?) => {
        $(
            #[doc = concat!("An error of code [`Code::", stringify!($code), "`].")]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(Code::$code, message)
            }
        )*
    };
}

impl Error {
    /// An error with `code` and a message that names model, node and value where they are known.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), wait: None, source: None }
    }

    constructors! {
        cancelled => Cancelled,
        invalid_argument => InvalidArgument,
        deadline_exceeded => DeadlineExceeded,
        not_found => NotFound,
        permission_denied => PermissionDenied,
        resource_exhausted => ResourceExhausted,
        failed_precondition => FailedPrecondition,
        unimplemented => Unimplemented,
        internal => Internal,
        unavailable => Unavailable,
        data_loss => DataLoss,
        unauthenticated => Unauthenticated,
    }

    /// The same error caused by `source`.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error with a hint: it may be worth to try again after so long.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// The same error with `place` (a model, node or file) said first.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The canonical code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// After how long it may be worth to try again; `None` where that is not known.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// The message, without the code.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            std::io::ErrorKind::OutOfMemory => Code::ResourceExhausted,
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => Code::DataLoss,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string()).with_source(error)
    }
}
