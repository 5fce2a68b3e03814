//! Control records: what a broker writes between the records of applications (transaction markers).
//! A batch of them has the control attribute; applications never see them.
//!
//! A control record's key is `version: i16, type: i16`.

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's open transaction is aborted.
    Abort,
    /// The producer's open transaction is committed.
    Commit,
    /// Of another kind (a newer broker, or KRaft's): readers skip it.
    Other(i16),
}

/// The type told by a control record's key; `None` where the key is not one of a control record.
pub fn control_type(key: &[u8]) -> Option<ControlType> {
    let (version, rest) = key.split_first_chunk::<2>()?;
    let (number, _) = rest.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    Some(match i16::from_be_bytes(*number) {
        0 => ControlType::Abort,
        1 => ControlType::Commit,
        other => ControlType::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_the_key() {
        assert_eq!(control_type(&[0, 0, 0, 0]), Some(ControlType::Abort));
        assert_eq!(control_type(&[0, 0, 0, 1]), Some(ControlType::Commit));
        assert_eq!(control_type(&[0, 1, 0, 6, 9]), Some(ControlType::Other(6)));
        assert_eq!(control_type(&[0, 0, 0]), None);
        assert_eq!(control_type(&[0xff, 0xff, 0, 1]), None);
    }
}
