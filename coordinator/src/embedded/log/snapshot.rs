//! The snapshot file: the whole state at one zxid. All integers are big-endian.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `OTTLASNP` |
//! | 4 | version, 1 |
//! | 8 | zxid: every record up to it is contained |
//! | 8 | highest session number ever given out |
//! | 4, then each 28 | sessions: number, timeout in ms, password |
//! | 4, then each | nodes: path, data, access list, the fields of [`Node`] in order |
//! | 4 | CRC-32 of all before |

use super::super::acl::RequestedAcl;
use super::super::session_table::{Session, SessionTable};
use super::super::state::{Limits, State};
use super::super::tree::{Node, Tree};
use super::super::wire::{Input, Malformed, Output};

const MAGIC: [u8; 12] = *b"OTTLASNP\0\0\0\x01";

/// The state as file content.
pub(crate) fn encode(state: &State) -> Vec<u8> {
    let mut output = Output::new();
    output.raw(&MAGIC);
    output.i64(state.zxid);
    output.i64(state.sessions.last_id());
    output.size(state.sessions.len());
    for (id, session) in state.sessions.iter() {
        output.i64(id);
        output.i32(session.timeout_ms);
        output.raw(&session.password);
    }
    output.size(state.tree.len());
    for (path, node) in state.tree.iter() {
        output.string(&path);
        encode_node(node, &mut output);
    }
    let mut bytes = output.into_bytes();
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// The state from file content; `Malformed` if one bit of it is wrong.
pub(crate) fn decode(bytes: &[u8], limits: Limits) -> Result<State, Malformed> {
    let (content, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
    if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
        return Err(Malformed);
    }
    let mut input = Input::new(content.strip_prefix(&MAGIC).ok_or(Malformed)?);
    let mut state = State::new(limits);
    state.zxid = input.i64()?;
    state.sessions = SessionTable::with_last_id(input.i64()?);
    for _ in 0..input.count()? {
        let (id, timeout_ms) = (input.i64()?, input.i32()?);
        let (high, low) = (input.i64()?, input.i64()?);
        let mut password = [0; 16];
        password[..8].copy_from_slice(&high.to_be_bytes());
        password[8..].copy_from_slice(&low.to_be_bytes());
        state.sessions.insert(id, Session { timeout_ms, password });
    }
    state.tree = Tree::without_nodes();
    for _ in 0..input.count()? {
        let path = input.string()?;
        let node = decode_node(&mut input)?;
        if !state.tree.put(path, node) {
            return Err(Malformed);
        }
    }
    if state.tree.get("/").is_none() { Err(Malformed) } else { Ok(state) }
}

fn encode_node(node: &Node, output: &mut Output) {
    output.buffer(node.data.as_deref());
    node.acl.encode(output);
    for field in [node.czxid, node.mzxid, node.pzxid, node.ctime_ms, node.mtime_ms] {
        output.i64(field);
    }
    for field in [node.version, node.aversion, node.creations] {
        output.i32(field);
    }
    output.i64(node.owner);
    output.raw(&node.children.to_be_bytes());
}

fn decode_node(input: &mut Input<'_>) -> Result<Node, Malformed> {
    let data = input.buffer()?.map(Box::from);
    let RequestedAcl::Usable(acl) = RequestedAcl::decode(input)? else { return Err(Malformed) };
    Ok(Node {
        data,
        acl,
        czxid: input.i64()?,
        mzxid: input.i64()?,
        pzxid: input.i64()?,
        ctime_ms: input.i64()?,
        mtime_ms: input.i64()?,
        version: input.i32()?,
        aversion: input.i32()?,
        creations: input.i32()?,
        owner: input.i64()?,
        children: u32::try_from(input.i32()?).map_err(|_| Malformed)?,
    })
}
