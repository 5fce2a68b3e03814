//! Whether two replies say the same, where each server counts zxids and sessions its own way.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::operation::Shape;
use super::raw::Cursor;

/// Which zxid and which session of one server is which of the other. `real` first in each pair.
#[derive(Debug, Default)]
pub(super) struct Twins {
    zxids: BTreeMap<i64, i64>,
    sessions: BTreeMap<i64, i64>,
}

/// A part of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Int(i32),
    Text(String),
    Buffer(Option<Vec<u8>>),
    Texts(Vec<String>),
    Zxid(i64),
    Session(i64),
}

impl Twins {
    pub(super) fn add_session(&mut self, real: i64, ours: i64) {
        self.sessions.insert(real, ours);
    }

    /// The n-th pair of zxids seen, counted round; for setWatches.
    pub(super) fn zxid_pair(&self, n: usize) -> (i64, i64) {
        let len = self.zxids.len().max(1);
        self.zxids.iter().nth(n % len).map_or((0, 0), |(real, ours)| (*real, *ours))
    }

    /// Both are 0, or they are known as twins, or fit between the twins known.
    pub(super) fn check_zxid(&mut self, real: i64, ours: i64) -> Result<()> {
        if let Some(known) = self.zxids.get(&real) {
            ensure!(*known == ours, "zxid {real:#x} was {known:#x}, now {ours:#x}");
            return Ok(());
        }
        let below = self.zxids.range(..real).next_back();
        let above = self.zxids.range(real..).next();
        ensure!(below.is_none_or(|(_, below)| *below < ours), "{ours:#x} not above {below:?}");
        ensure!(above.is_none_or(|(_, above)| *above > ours), "{ours:#x} not below {above:?}");
        self.zxids.insert(real, ours);
        Ok(())
    }

    /// An error that tells the difference, if there is one.
    pub(super) fn check_bodies(&mut self, shape: Shape, real: &[u8], ours: &[u8]) -> Result<()> {
        let (real, ours) = (parse(shape, real)?, parse(shape, ours)?);
        ensure!(real.len() == ours.len(), "{real:?}\nbut {ours:?}");
        for (index, pair) in real.iter().zip(&ours).enumerate() {
            let same = match pair {
                (Value::Zxid(real), Value::Zxid(ours)) => self.check_zxid(*real, *ours),
                (Value::Session(0), Value::Session(0)) => Ok(()),
                (Value::Session(real), Value::Session(ours))
                    if self.sessions.get(real) == Some(ours) =>
                {
                    Ok(())
                }
                (one, two) if one == two => Ok(()),
                _ => Err(anyhow::anyhow!("they differ")),
            };
            if let Err(error) = same {
                bail!("part {index}: {error}\n{real:?}\nbut {ours:?}");
            }
        }
        Ok(())
    }
}

fn parse(shape: Shape, body: &[u8]) -> Result<Vec<Value>> {
    let mut cursor = Cursor(body);
    let mut values = Vec::new();
    match shape {
        Shape::Empty => {}
        Shape::Int => values.push(Value::Int(cursor.int()?)),
        Shape::Text => values.push(Value::Text(cursor.string()?)),
        Shape::Stat => stat(&mut cursor, &mut values)?,
        Shape::Texts => values.push(texts(&mut cursor)?),
        Shape::TextStat => {
            values.push(Value::Text(cursor.string()?));
            stat(&mut cursor, &mut values)?;
        }
        Shape::BufferStat => {
            values.push(Value::Buffer(cursor.buffer()?));
            stat(&mut cursor, &mut values)?;
        }
        Shape::TextsStat => {
            values.push(texts(&mut cursor)?);
            stat(&mut cursor, &mut values)?;
        }
        Shape::AclStat => {
            for _ in 0..cursor.int()? {
                values.push(Value::Int(cursor.int()?));
                values.push(Value::Text(cursor.string()?));
                values.push(Value::Text(cursor.string()?));
            }
            stat(&mut cursor, &mut values)?;
        }
        Shape::Pairs => {
            for _ in 0..2 * cursor.int()? {
                values.push(Value::Text(cursor.string()?));
            }
        }
        Shape::Multi => multi(&mut cursor, &mut values)?,
    }
    ensure!(cursor.0.is_empty(), "{} bytes left after {values:?}", cursor.0.len());
    Ok(values)
}

fn texts(cursor: &mut Cursor<'_>) -> Result<Value> {
    let count = cursor.int()?;
    let mut texts = (0..count).map(|_| cursor.string()).collect::<Result<Vec<_>>>()?;
    texts.sort();
    Ok(Value::Texts(texts))
}

fn stat(cursor: &mut Cursor<'_>, values: &mut Vec<Value>) -> Result<()> {
    values.push(Value::Zxid(cursor.long()?));
    values.push(Value::Zxid(cursor.long()?));
    let (ctime, mtime) = (cursor.long()?, cursor.long()?);
    ensure!(mtime >= ctime, "modified before created");
    for _ in 0..3 {
        values.push(Value::Int(cursor.int()?));
    }
    values.push(Value::Session(cursor.long()?));
    values.push(Value::Int(cursor.int()?));
    values.push(Value::Int(cursor.int()?));
    values.push(Value::Zxid(cursor.long()?));
    Ok(())
}

fn multi(cursor: &mut Cursor<'_>, values: &mut Vec<Value>) -> Result<()> {
    loop {
        let (op, done, code) = (cursor.int()?, cursor.flag()?, cursor.int()?);
        values.push(Value::Int(op));
        values.push(Value::Int(code));
        if done {
            return Ok(());
        }
        match op {
            1 => values.push(Value::Text(cursor.string()?)),
            2 | 13 => {}
            5 => stat(cursor, values)?,
            4 => {
                values.push(Value::Buffer(cursor.buffer()?));
                stat(cursor, values)?;
            }
            8 => values.push(texts(cursor)?),
            -1 => values.push(Value::Int(cursor.int()?)),
            other => bail!("result of kind {other}"),
        }
    }
}
