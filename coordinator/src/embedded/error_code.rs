//! The error codes of ZooKeeper's replies that this server gives.

/// A code in a reply header or in a multi's error record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum ErrorCode {
    /// An operation of a multi that was not tried because an earlier one failed.
    RuntimeInconsistency = -2,
    /// The body does not hold the record the operation needs.
    MarshallingError = -5,
    /// An operation or kind of node this server does not have.
    Unimplemented = -6,
    /// A path or flag that can never be right.
    BadArguments = -8,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    NoWatcher = -121,
    /// A bound of this server is reached: disk full, tree too large, too many watches.
    QuotaExceeded = -125,
}

impl ErrorCode {
    pub(crate) fn number(self) -> i32 {
        self as i32
    }
}

impl From<super::wire::Malformed> for ErrorCode {
    fn from(_: super::wire::Malformed) -> Self {
        Self::MarshallingError
    }
}
