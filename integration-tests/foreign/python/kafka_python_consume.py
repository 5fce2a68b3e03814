"""kafka-python's consumer without a group's help: places in the log, and offsets committed by hand."""

from __future__ import annotations

from typing import Any

from checks import CODECS, Setting, check, equal, eventually, log_line, main, record
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import NoOffsetForPartitionError, OffsetMetadataTooLargeError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

FIRST_TIME = 1_700_000_000_000


def consumer(setting: Setting, *partitions: TopicPartition, **settings: Any) -> KafkaConsumer:
    """A consumer of these partitions, of a group of its own name, which commits nothing by itself."""
    defaults = {
        "bootstrap_servers": setting.bootstrap,
        "group_id": "by-hand",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 100,
        "auto_offset_reset": "none",
    }
    of = KafkaConsumer(**defaults | settings)
    of.assign(list(partitions))
    return of


def fill(setting: Setting, topic: str, records: int, partitions: int = 1, codec: str = "none") -> None:
    """A topic whose record n has the number n as its value and was made n times 10 ms after FIRST_TIME."""
    admin = KafkaAdminClient(bootstrap_servers=setting.bootstrap)
    admin.create_topics([NewTopic(topic, partitions, 1)])
    admin.close()
    compression = None if codec == "none" else codec
    producer = KafkaProducer(bootstrap_servers=setting.bootstrap, linger_ms=50, compression_type=compression)
    for number in range(records):
        for partition in range(partitions):
            time = FIRST_TIME + 10 * number
            producer.send(topic, b"%d" % number, partition=partition, timestamp_ms=time)
    producer.flush(20)
    producer.close()


def take(of: KafkaConsumer, count: int) -> list[ConsumerRecord]:
    """The next records."""
    taken: list[ConsumerRecord] = []

    def enough() -> bool:
        found = of.poll(200, max_records=count - len(taken))
        taken.extend(record for records in found.values() for record in records)
        return len(taken) == count

    eventually(f"{count} records", enough)
    return taken


def offsets(records: list[ConsumerRecord]) -> list[int]:
    """Their offsets."""
    return [of.offset for of in records]


def what_others_wrote(setting: Setting) -> None:
    """Every record of topic `ours` is as it was left, whatever its codec."""
    expected = setting.left("ours")
    partition = TopicPartition("ours", 0)
    of = consumer(setting, partition)
    of.seek_to_beginning(partition)
    for seen, left in zip(take(of, len(expected)), expected):
        shown = record("ours", seen.partition, seen.offset, seen.timestamp, seen.key, seen.value, seen.headers)
        equal(shown, left)
    of.close()


def seek(setting: Setting) -> None:
    """To offsets within batches, to the beginning, to the end; `position` follows."""
    fill(setting, "seek", 500)
    partition = TopicPartition("seek", 0)
    for sessions in (False, True):
        of = consumer(setting, partition, enable_incremental_fetch_sessions=sessions)
        for offset in (123, 499, 7, 8, 300):
            of.seek(partition, offset)
            equal(offsets(take(of, 1)), [offset], "from where it was sought")
            equal(of.position(partition), offset + 1, "position")
        of.seek_to_beginning(partition)
        equal([seen.value for seen in take(of, 500)], [b"%d" % n for n in range(500)], "all")
        equal(of.position(partition), 500, "position at the end")
        of.seek_to_end(partition)
        equal(of.poll(300), {}, "nothing behind the end")
        equal(of.position(partition), 500, "position at the end")
        equal(of.beginning_offsets([partition]), {partition: 0}, "beginning")
        equal(of.end_offsets([partition]), {partition: 500}, "end")
        equal(of.highwater(partition), 500, "the high watermark of fetches")
        of.close()


def by_time(setting: Setting) -> None:
    """To the very record, also inside a compressed batch."""
    for codec in CODECS:
        topic = f"times-{codec}"
        fill(setting, topic, 400, codec=codec)
        partition = TopicPartition(topic, 0)
        of = consumer(setting, partition)
        for after, expected in [(-1, 0), (0, 0), (1, 1), (2_340, 234), (2_341, 235), (3_990, 399)]:
            told = of.offsets_for_times({partition: FIRST_TIME + after})[partition]
            equal((told.offset, told.timestamp), (expected, FIRST_TIME + 10 * expected), f"{topic}, {after} ms")
        equal(of.offsets_for_times({partition: FIRST_TIME + 3_991}), {partition: None}, "after the last")
        of.seek(partition, of.offsets_for_times({partition: FIRST_TIME + 2_341})[partition].offset)
        equal(offsets(take(of, 1)), [235], "read from there")
        of.close()


def pause(setting: Setting) -> None:
    """What is paused stands still while the rest goes on, and misses nothing."""
    fill(setting, "pause", 50, partitions=2)
    both = [TopicPartition("pause", partition) for partition in range(2)]
    of = consumer(setting, *both)
    of.seek_to_beginning(*both)
    of.pause(both[0])
    equal(of.paused(), {both[0]}, "paused")
    equal([(seen.partition, seen.offset) for seen in take(of, 50)], [(1, n) for n in range(50)], "paused")
    equal(of.poll(300), {}, "a record of the paused partition")
    of.resume(both[0])
    equal([(seen.partition, seen.offset) for seen in take(of, 50)], [(0, n) for n in range(50)], "resumed")
    of.close()


def commit(setting: Setting) -> None:
    """Waited for or not; with words of one's own; read back here, by another consumer, and begun from."""
    fill(setting, "commit", 30, partitions=2)
    both = [TopicPartition("commit", partition) for partition in range(2)]
    of = consumer(setting, both[0], group_id="committer")
    equal([of.committed(partition) for partition in both], [None, None], "before any")
    of.seek_to_beginning(both[0])
    take(of, 10)
    of.commit()
    equal(of.committed(both[0]), 10, "committed and waited for")
    told: list[object] = []
    place = {both[1]: OffsetAndMetadata(7, "a word", 0)}
    of.commit_async(place, callback=lambda offsets, outcome: told.append((offsets, outcome)))

    def is_told() -> bool:
        of.poll(100)
        return bool(told)

    eventually("the outcome of the commit that was not waited for", is_told)
    check(not isinstance(told[0][1], Exception), told)  # type: ignore[index]
    other = consumer(setting, *both, group_id="committer")
    equal(other.committed(both[0]), 10, "read by another")
    found = other.committed(both[1], metadata=True)
    equal((found.offset, found.metadata, found.leader_epoch), (7, "a word", 0), "with words")
    seen = sorted((seen.partition, seen.offset) for seen in take(other, 20 + 23))
    equal(seen, [(0, n) for n in range(10, 30)] + [(1, n) for n in range(7, 30)], "read on from there")
    other.close()
    try:
        of.commit({both[0]: OffsetAndMetadata(1, "x" * 5_000, -1)})
        check(False, "words without end were taken")
    except OffsetMetadataTooLargeError:
        pass
    equal(of.committed(both[0]), 10, "a refused commit changes nothing")
    of.close()


def where_nothing_is_committed(setting: Setting) -> None:
    """auto_offset_reset: earliest, latest, or an error that is told."""
    fill(setting, "reset", 20)
    partition = TopicPartition("reset", 0)
    of = consumer(setting, partition, auto_offset_reset="earliest")
    equal(offsets(take(of, 20)), list(range(20)), "earliest")
    of.close()
    of = consumer(setting, partition, auto_offset_reset="latest")
    equal(of.position(partition), 20, "latest")
    producer = KafkaProducer(bootstrap_servers=setting.bootstrap)
    producer.send("reset", b"new").get(10)
    equal(offsets(take(of, 1)), [20], "what came after latest")
    of.close()
    of = consumer(setting, partition)
    try:
        of.poll(5_000)
        check(False, "read from nowhere")
    except NoOffsetForPartitionError:
        pass
    of.close()


def out_of_range(setting: Setting) -> None:
    """Offsets above the end and below the start: what auto_offset_reset says, at once."""
    fill(setting, "range", 40)
    partition = TopicPartition("range", 0)
    admin = KafkaAdminClient(bootstrap_servers=setting.bootstrap)
    admin.delete_records({partition: 15})
    admin.close()
    for offset in (3, 1_000):
        of = consumer(setting, partition, auto_offset_reset="earliest")
        of.seek(partition, offset)
        equal(offsets(take(of, 1)), [15], f"earliest in place of {offset}")
        of.close()
        of = consumer(setting, partition, auto_offset_reset="latest")
        of.seek(partition, offset)

        def is_at_the_end() -> bool:
            equal(of.poll(100), {}, "records")
            return bool(of.position(partition) == 40)

        eventually(f"latest in place of {offset}", is_at_the_end)
        of.close()
        of = consumer(setting, partition)
        of.seek(partition, offset)
        try:
            eventually("an error", lambda: of.poll(200) and None, limit_s=5)
        except OffsetOutOfRangeError as error:
            equal(error.args[0], {partition: offset}, "what is out of range")
        of.close()
    of = consumer(setting, partition)
    equal((of.beginning_offsets([partition]), of.end_offsets([partition])), ({partition: 15}, {partition: 40}))
    of.close()


def read_committed(setting: Setting) -> None:
    """Where nobody uses transactions, both isolation levels read the same, to the same end."""
    fill(setting, "isolated", 20)
    partition = TopicPartition("isolated", 0)
    for level in ("read_committed", "read_uncommitted"):
        of = consumer(setting, partition, isolation_level=level)
        of.seek_to_beginning(partition)
        equal(offsets(take(of, 20)), list(range(20)), level)
        equal(of.end_offsets([partition]), {partition: 20}, f"the end by {level}")
        of.close()


def large_batches(setting: Setting) -> None:
    """A fetch smaller than a batch gets it whole: nobody sticks."""
    fill(setting, "large", 0)
    producer = KafkaProducer(bootstrap_servers=setting.bootstrap, linger_ms=50, batch_size=500_000)
    lines = [log_line(number) * 50 for number in range(500)]
    for line in lines:
        producer.send("large", line)
    producer.flush(20)
    partition = TopicPartition("large", 0)
    of = consumer(setting, partition, max_partition_fetch_bytes=1_000, fetch_max_bytes=1_000)
    of.seek_to_beginning(partition)
    equal([seen.value for seen in take(of, 500)], lines, "values")
    of.close()


CHECKS = [
    what_others_wrote, seek, by_time, pause, commit, where_nothing_is_committed, out_of_range, read_committed,
    large_batches,
]

if __name__ == "__main__":
    main(CHECKS)
