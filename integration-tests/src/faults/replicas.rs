//! Compares what the replicas of a topic have on disk: the same batches, byte for byte, below the
//! high watermark. For brokers that are stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Bytes of a batch before its length counts: base offset and length.
const PREFIX: usize = 12;

/// Batches of one replica by base offset: where they are and what they are.
type Batches = BTreeMap<i64, Vec<u8>>;

/// One line for each replica that differs from the fullest one below the high watermark.
pub fn differences(
    replicas: &[(i32, PathBuf)],
    topic: &str,
    partition: i32,
    high_watermark: i64,
) -> Result<Vec<String>> {
    let mut read = Vec::new();
    for (broker, data) in replicas {
        let folder = data.join(format!("{topic}-{partition}"));
        if folder.exists() {
            read.push((*broker, batches(&folder, high_watermark)?));
        }
    }
    let Some((fullest, whole)) = read.iter().max_by_key(|(_, batches)| batches.len()).cloned()
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (broker, batches) in &read {
        let Some((&first, _)) = batches.first_key_value() else { continue };
        let Some((&last, _)) = batches.last_key_value() else { continue };
        // A replica may begin later, and one that is not in sync may end earlier.
        let theirs = batches.iter();
        let mut ours = whole.range(first..=last);
        let differs = theirs.zip(&mut ours).find(|(one, other)| one != other);
        if let Some(((offset, bytes), (other, other_bytes))) = differs {
            found.push(format!(
                "{topic}-{partition}: broker {broker} has {} bytes at {offset} where broker \
                 {fullest} has {} at {other} (high watermark {high_watermark})",
                bytes.len(),
                other_bytes.len(),
            ));
        }
    }
    Ok(found)
}

fn batches(folder: &Path, high_watermark: i64) -> Result<Batches> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let mut batches = Batches::new();
    for segment in segments {
        let bytes = std::fs::read(&segment)?;
        let mut rest = bytes.as_slice();
        while let Some((prefix, after)) = rest.split_at_checked(PREFIX) {
            let base = i64::from_be_bytes(prefix[..8].try_into()?);
            let length = i32::from_be_bytes(prefix[8..].try_into()?);
            // What was not written yet of a segment may be zeros.
            if length <= 0 || base >= high_watermark {
                break;
            }
            let batch = after.get(..length as usize);
            batch.with_context(|| format!("{}: torn at {base}", segment.display()))?;
            batches.insert(base, rest[..PREFIX + length as usize].to_vec());
            rest = &after[length as usize..];
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn replica(root: &Path, broker: i32, batches: &[(i64, &[u8])]) -> (i32, PathBuf) {
        let data = root.join(broker.to_string());
        let folder = data.join("t-0");
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = std::fs::File::create(folder.join("00000000000000000000.log")).unwrap();
        for (base, body) in batches {
            file.write_all(&base.to_be_bytes()).unwrap();
            file.write_all(&(body.len() as i32).to_be_bytes()).unwrap();
            file.write_all(body).unwrap();
        }
        (broker, data)
    }

    #[test]
    fn what_differs_below_the_high_watermark_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let same = [(0, &b"one"[..]), (1, b"two"), (2, b"three")];
        let replicas = [
            replica(dir.path(), 1, &same),
            replica(dir.path(), 2, &[(0, b"one"), (1, b"two"), (2, b"other")]),
            // Begins later, ends earlier.
            replica(dir.path(), 3, &[(1, b"two")]),
        ];
        assert_eq!(differences(&replicas, "t", 0, 2).unwrap(), Vec::<String>::new());
        let found = differences(&replicas, "t", 0, 3).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let gap = replica(dir.path(), 4, &[(0, b"one"), (2, b"three")]);
        let found = differences(&[replicas[0].clone(), gap], "t", 0, 3).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
