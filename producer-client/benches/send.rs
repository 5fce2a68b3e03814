//! How fast `send` encodes: records a second through the public API to a broker that is given, or, with
//! none, into `buffer.memory` alone. Prints what it measured with its settings; asserts nothing.
//!
//! `cargo bench -p producer-client -- [BOOTSTRAP TOPIC]`

use std::time::{Duration, Instant};

use producer_client::{MessageSet, Producer, ProducerConfig, Record};

const RECORD_LEN: usize = 200;

/// What this thread has used of a core, in nanoseconds; on a busy machine it tells more than the clock.
fn thread_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn measure(producer: &Producer, topic: &str, name: &str, records: usize, run: impl FnOnce()) {
    let before = producer.stats();
    let (started, cpu) = (Instant::now(), thread_cpu_ns());
    run();
    let cpu = thread_cpu_ns() - cpu;
    let sent = started.elapsed().as_secs_f64();
    let flushed = producer.flush().wait();
    let total = started.elapsed().as_secs_f64();
    let after = producer.stats();
    println!(
        "{{\"name\":\"{name}\",\"topic\":\"{topic}\",\"records\":{records},\"record_bytes\":{RECORD_LEN},\
         \"send_cpu_ns_per_record\":{:.1},\"send_records_per_second\":{:.0},\"acknowledged_records_per_second\":{:.0},\
         \"acknowledged\":{},\"failed\":{},\"ok\":{}}}",
        cpu as f64 / records as f64,
        records as f64 / sent,
        records as f64 / total,
        after.acknowledged - before.acknowledged,
        after.failed - before.failed,
        flushed.is_ok(),
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [bootstrap, topic] = arguments.as_slice() else {
        println!("nothing to do: give BOOTSTRAP and TOPIC");
        return Ok(());
    };
    let mut config = ProducerConfig::new([bootstrap.as_str()]);
    config.buffer_memory = 256 << 20;
    config.linger = Duration::from_millis(5);
    let producer = Producer::start(config)?;
    let value = vec![b'x'; RECORD_LEN];
    producer.send(Record::to(topic).value(&value)).wait()?;
    for round in 0..3 {
        // What fits in memory: the pace of encoding alone.
        let fits = (200 << 20) / (RECORD_LEN + 10);
        measure(&producer, topic, &format!("send_detached, in memory, {round}"), fits, || {
            for _ in 0..fits {
                let _ = producer.send_detached(Record::to(topic).value(&value));
            }
        });
        measure(&producer, topic, &format!("send with futures, in memory, {round}"), fits, || {
            let mut last = None;
            for _ in 0..fits {
                last = Some(producer.send(Record::to(topic).value(&value)));
            }
            let _ = last.map(producer_client::SendFuture::wait);
        });
        let many = 5_000_000;
        measure(&producer, topic, &format!("send_detached, sustained, {round}"), many, || {
            for _ in 0..many {
                let _ = producer.send_detached(Record::to(topic).value(&value));
            }
        });
        let mut set = MessageSet::new();
        (0..50).for_each(|_| _ = set.push(&value));
        measure(&producer, topic, &format!("send_set of 50, sustained, {round}"), many, || {
            let mut last = None;
            for _ in 0..many / 50 {
                last = Some(producer.send_set(topic, &set));
            }
            let _ = last.map(producer_client::SetFuture::wait);
        });
    }
    producer.close(Duration::from_secs(30)).wait()?;
    Ok(())
}
