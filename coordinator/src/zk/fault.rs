//! What an error of the ZooKeeper client means for the caller: what may have happened, what to do.

use zookeeper_client::Error;

/// The most one request may carry, names and framing included. ZooKeeper closes the connection
/// above 1 MiB less one, which looks like a lost connection for ever; so sizes are checked here.
pub const MAX_REQUEST_BYTES: usize = 1_000_000;

/// The classes of error that callers act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer was lost. A write may or may not have happened: read back before repeating it.
    AnswerLost,
    /// The session is over, and its ephemerals are gone or going. Wait for the next session.
    SessionEnded,
    /// The server answered; the request had no effect.
    Refused,
}

impl Fault {
    /// Sorts an error.
    pub fn of(error: &Error) -> Self {
        match error {
            // The client reports a silent server as `Custom`, a broken socket as either.
            Error::ConnectionLoss | Error::Custom(_) | Error::Timeout => Self::AnswerLost,
            Error::SessionExpired | Error::SessionMoved | Error::ClientClosed => Self::SessionEnded,
            Error::AuthFailed => Self::SessionEnded,
            // The server dropped it, or answered with what could not be read: nothing is known.
            Error::Throttled | Error::UnexpectedError(_) | Error::UnmarshalError { .. } => {
                Self::AnswerLost
            }
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted() {
        assert_eq!(Fault::of(&Error::ConnectionLoss), Fault::AnswerLost);
        assert_eq!(Fault::of(&Error::SessionExpired), Fault::SessionEnded);
        assert_eq!(Fault::of(&Error::BadVersion), Fault::Refused);
        assert_eq!(Fault::of(&Error::NoNode), Fault::Refused);
    }
}
