//! Text that looks like logs: generated lines, each padded or cut to one length.

/// Kinds of line as servers write them; `{}` takes a number or a word.
const SHAPES: [&str; 6] = [
    "INFO [http-nio-{}] c.example.api.RequestLog - GET /v1/items/{} 200 in {} ms, user={} ua=\"",
    "WARN [pool-{}] o.e.store.Replica - block blk_{} is {} ms behind its primary at 10.0.{}.17",
    "kernel: [{}.{}] TCP: request_sock_TCP: Possible SYN flooding on port {}. Sending cookies {}",
    "sshd[{}]: Failed password for invalid user w{} from 173.234.31.{} port {} ssh2",
    "DEBUG {} dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blk_{} size {} to 10.251.{}.7",
    "ERROR worker-{} job {} failed after {} tries: java.net.SocketTimeoutException: Read {}",
];
const PADDING: &str = " Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0 Safari/537.36 trace=7f3a9b session=closed reason=timeout next=retry done.";

/// `count` lines of exactly `len` bytes, one after the other, the same at every run.
pub(crate) fn fixed_lines(count: usize, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(0x0771a);
    let mut all = Vec::with_capacity(count * len);
    let mut line = String::with_capacity(2 * len);
    for number in 0..count {
        line.clear();
        line.push_str(&format!(
            "2026-11-{:02}T{:09} ",
            1 + number / 10_000_000,
            number % 10_000_000
        ));
        let mut parts = SHAPES[random.usize(..SHAPES.len())].split("{}");
        line.push_str(parts.next().unwrap_or_default());
        for part in parts {
            line.push_str(&random.u32(..1_000_000).to_string());
            line.push_str(part);
        }
        while line.len() < len {
            line.push_str(PADDING);
        }
        all.extend_from_slice(&line.as_bytes()[..len]);
    }
    all
}
