//! Access control lists. Only the identity `world:anyone` exists here: a list is the permissions of
//! its entries, and a list that names anybody else is refused as invalid.

use super::error_code::ErrorCode;
use super::wire::{Input, Malformed, Output};

/// Permission bits, numbered as ZooKeeper's.
pub(crate) mod permission {
    pub(crate) const READ: i32 = 1;
    pub(crate) const WRITE: i32 = 2;
    pub(crate) const CREATE: i32 = 4;
    pub(crate) const DELETE: i32 = 8;
    pub(crate) const ADMIN: i32 = 16;
    pub(crate) const ALL: i32 = 31;
}

/// A node's list. The usual one, "everything for anyone", takes no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Acl {
    /// `None` is `[ALL]`.
    permissions: Option<Box<[i32]>>,
}

/// A list as it came in: not yet known to be one we keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestedAcl {
    Usable(Acl),
    /// Empty, or with an identity this server does not know.
    Invalid,
}

impl RequestedAcl {
    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let count = input.count()?;
        let mut permissions = Vec::new();
        let mut valid = count > 0;
        for _ in 0..count {
            let bits = input.i32()?;
            valid &= input.string()? == "world";
            valid &= input.string()? == "anyone";
            if valid && !permissions.contains(&bits) {
                permissions.push(bits);
            }
        }
        Ok(if valid { Self::Usable(Acl::of(permissions)) } else { Self::Invalid })
    }

    pub(crate) fn usable(&self) -> Result<&Acl, ErrorCode> {
        match self {
            Self::Usable(acl) => Ok(acl),
            Self::Invalid => Err(ErrorCode::InvalidAcl),
        }
    }
}

impl Acl {
    fn of(permissions: Vec<i32>) -> Self {
        if permissions == [permission::ALL] {
            Self::default()
        } else {
            Self { permissions: Some(permissions.into_boxed_slice()) }
        }
    }

    pub(crate) fn read_only() -> Self {
        Self::of(vec![permission::READ])
    }

    /// `NoAuth` unless some entry grants one of these permissions.
    pub(crate) fn check(&self, wanted: i32) -> Result<(), ErrorCode> {
        let granted = match &self.permissions {
            None => true,
            Some(all) => all.is_empty() || all.iter().any(|bits| bits & wanted != 0),
        };
        if granted { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    pub(crate) fn encode(&self, output: &mut Output) {
        let permissions = self.permissions.as_deref().unwrap_or(&[permission::ALL]);
        output.size(permissions.len());
        for bits in permissions {
            output.i32(*bits);
            output.string("world");
            output.string("anyone");
        }
    }
}
