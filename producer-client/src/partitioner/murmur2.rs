//! The 32-bit MurmurHash2 with the seed that Kafka's Java client uses, so that one key goes to one
//! partition whichever client sends it.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// Hashes `key` as `org.apache.kafka.common.utils.Utils.murmur2` does.
pub fn murmur2(key: &[u8]) -> u32 {
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    #[test]
    fn agrees_with_the_java_client() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn agrees_with_librdkafka() {
        // librdkafka tests/0048-partitioner.c, positive part, computed there with the Java client.
        for (key, expected) in [
            ("", 0x106e_08d9),
            ("23456", 0x058d_780f),
            ("this is another string with more length to it perhaps", 0x4f77_03da),
            ("hejsan", 0x5ec1_9395),
        ] {
            assert_eq!(murmur2(key.as_bytes()) & 0x7fff_ffff, expected, "{key}");
        }
    }
}
