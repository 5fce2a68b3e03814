//! The operations that change the tree or the sessions, decoded from a request's body. The log
//! keeps the same bytes, so that a replay decodes and applies exactly what a client asked for.

use super::acl::RequestedAcl;
use super::op_code;
use super::wire::{Input, Malformed};

/// One changing operation. Borrowed from the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write<'a> {
    Create(Create<'a>),
    Delete { path: &'a str, version: i32 },
    SetData { path: &'a str, data: Option<&'a [u8]>, version: i32 },
    SetAcl { path: &'a str, acl: RequestedAcl, version: i32 },
    Check { path: &'a str, version: i32 },
    Multi(Vec<Write<'a>>),
    CreateSession { timeout_ms: i32, password: [u8; 16] },
    CloseSession,
}

/// The body of `create` and `create2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Create<'a> {
    pub(crate) path: &'a str,
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) acl: RequestedAcl,
    pub(crate) mode: CreateMode,
    /// Answered with path and Stat (`create2`), not with the path alone.
    pub(crate) with_stat: bool,
}

/// The flags of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateMode {
    Plain {
        ephemeral: bool,
        sequential: bool,
    },
    /// Containers and nodes with a time to live: known, not offered.
    Unimplemented,
    Unknown,
}

impl CreateMode {
    fn of(flags: i32) -> Self {
        match flags {
            0..=3 => Self::Plain { ephemeral: flags & 1 != 0, sequential: flags & 2 != 0 },
            4..=6 => Self::Unimplemented,
            _ => Self::Unknown,
        }
    }
}

/// What a multi may hold beside its end mark.
const MULTI_WRITES: [i32; 5] =
    [op_code::CREATE, op_code::CREATE2, op_code::DELETE, op_code::SET_DATA, op_code::CHECK];

impl<'a> Write<'a> {
    /// Decodes the body of the operation `op`; `None` where `op` changes nothing.
    pub(crate) fn decode(op: i32, body: &'a [u8]) -> Option<Result<Self, Malformed>> {
        let mut input = Input::new(body);
        Some(match op {
            op_code::MULTI => decode_multi(&mut input).map(Self::Multi),
            op_code::SET_ACL => decode_set_acl(&mut input),
            op_code::CREATE_SESSION => decode_create_session(&mut input),
            op_code::CLOSE_SESSION => Ok(Self::CloseSession),
            op if MULTI_WRITES.contains(&op) => Self::decode_single(op, &mut input),
            _ => return None,
        })
    }

    fn decode_single(op: i32, input: &mut Input<'a>) -> Result<Self, Malformed> {
        let path = input.string()?;
        Ok(match op {
            op_code::DELETE => Self::Delete { path, version: input.i32()? },
            op_code::CHECK => Self::Check { path, version: input.i32()? },
            op_code::SET_DATA => {
                Self::SetData { path, data: input.buffer()?, version: input.i32()? }
            }
            _ => Self::Create(Create {
                path,
                data: input.buffer()?,
                acl: RequestedAcl::decode(input)?,
                mode: CreateMode::of(input.i32()?),
                with_stat: op == op_code::CREATE2,
            }),
        })
    }

    /// Whether the operation can only make the tree smaller: those are still taken when the disk
    /// is full, from the reserve. A new session counts, or nobody could connect to delete.
    pub(crate) fn only_shrinks(&self) -> bool {
        match self {
            Self::Delete { .. }
            | Self::Check { .. }
            | Self::CloseSession
            | Self::CreateSession { .. } => true,
            Self::Create(_) | Self::SetData { .. } | Self::SetAcl { .. } => false,
            Self::Multi(all) => all.iter().all(Self::only_shrinks),
        }
    }
}

fn decode_set_acl<'a>(input: &mut Input<'a>) -> Result<Write<'a>, Malformed> {
    let path = input.string()?;
    Ok(Write::SetAcl { path, acl: RequestedAcl::decode(input)?, version: input.i32()? })
}

fn decode_create_session<'a>(input: &mut Input<'a>) -> Result<Write<'a>, Malformed> {
    let timeout_ms = input.i32()?;
    let password = input.buffer()?.ok_or(Malformed)?;
    Ok(Write::CreateSession { timeout_ms, password: password.try_into().map_err(|_| Malformed)? })
}

fn decode_multi<'a>(input: &mut Input<'a>) -> Result<Vec<Write<'a>>, Malformed> {
    let mut writes = Vec::new();
    while let Some(op) = next_of_multi(input)? {
        if !MULTI_WRITES.contains(&op) {
            return Err(Malformed);
        }
        // The Java server reads both kinds of create as the old one: no Stat in the result.
        let op = if op == op_code::CREATE2 { op_code::CREATE } else { op };
        writes.push(Write::decode_single(op, input)?);
    }
    Ok(writes)
}

/// Reads the header before an operation of a multi (code, done, error); `None` at the end mark.
pub(crate) fn next_of_multi(input: &mut Input<'_>) -> Result<Option<i32>, Malformed> {
    let op = input.i32()?;
    let done = input.bool()?;
    input.i32()?;
    Ok(if done { None } else { Some(op) })
}
