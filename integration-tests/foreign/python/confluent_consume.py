"""confluent-kafka's consumer without a group's help: places in the log, and offsets committed by hand."""

from __future__ import annotations

from typing import Any, Optional

from checks import CODECS, Setting, check, equal, eventually, log_line, main, record
from confluent_kafka import (
    OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

FIRST_TIME = 1_700_000_000_000


def consumer(setting: Setting, **settings: Any) -> Consumer:
    """A consumer of a group of its own name, which commits nothing by itself."""
    settings = {key if key == "on_commit" else key.replace("_", "."): settings[key] for key in settings}
    defaults = {
        "bootstrap.servers": setting.bootstrap,
        "group.id": "by-hand",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 100,
        "check.crcs": True,
        "auto.offset.reset": "error",
    }
    return Consumer(defaults | settings)


def fill(setting: Setting, topic: str, records: int, partitions: int = 1, codec: str = "none") -> None:
    """A topic whose record n has the number n as its value and was made n times 10 ms after FIRST_TIME."""
    admin = AdminClient({"bootstrap.servers": setting.bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(10)
    settings = {"bootstrap.servers": setting.bootstrap, "linger.ms": 50, "compression.type": codec}
    producer = Producer(settings)
    for number in range(records):
        for partition in range(partitions):
            producer.produce(topic, b"%d" % number, partition=partition, timestamp=FIRST_TIME + 10 * number)
    equal(producer.flush(20), 0, "not sent")


def next_record(of: Consumer) -> Message:
    """The next record; an error is none."""
    message = of.poll(10)
    check(message is not None, "no record in 10 s")
    check(message.error() is None, message.error())
    return message


def take(of: Consumer, count: int) -> list[Message]:
    """The next records."""
    return [next_record(of) for _ in range(count)]


def offsets(messages: list[Message]) -> list[int]:
    """Their offsets."""
    return [message.offset() for message in messages]


def what_others_wrote(setting: Setting) -> None:
    """Every record of topic `ours` is as it was left, whatever its codec."""
    expected = setting.left("ours")
    of = consumer(setting)
    of.assign([TopicPartition("ours", 0, OFFSET_BEGINNING)])
    seen = []
    for message in take(of, len(expected)):
        place = (message.partition(), message.offset(), message.timestamp()[1])
        seen.append(record("ours", *place, message.key(), message.value(), message.headers() or ()))
    for left, right in zip(seen, expected):
        equal(left, right)
    of.close()


def seek(setting: Setting) -> None:
    """To offsets within batches, to the beginning, to the end; `position` follows."""
    fill(setting, "seek", 500)
    partition = TopicPartition("seek", 0)
    for bytes_of_a_fetch in (1, 50_000):
        of = consumer(setting, fetch_message_max_bytes=bytes_of_a_fetch)
        of.assign([TopicPartition("seek", 0, 123)])
        equal(offsets(take(of, 2)), [123, 124], "from where it was assigned")
        equal(of.position([partition])[0].offset, 125, "position")
        for offset in (499, 7, 8, 300):
            of.seek(TopicPartition("seek", 0, offset))
            equal(offsets(take(of, 1)), [offset], "from where it was sought")
        of.seek(TopicPartition("seek", 0, OFFSET_BEGINNING))
        equal([message.value() for message in take(of, 500)], [b"%d" % n for n in range(500)], "all")
        equal(of.position([partition])[0].offset, 500, "position at the end")
        of.seek(TopicPartition("seek", 0, OFFSET_END))
        check(of.poll(0.3) is None, "nothing behind the end")
        equal(of.get_watermark_offsets(partition, timeout=5), (0, 500), "watermarks")
        of.close()


def by_time(setting: Setting) -> None:
    """To the very record, also inside a compressed batch."""
    for codec in CODECS:
        topic = f"times-{codec}"
        fill(setting, topic, 400, codec=codec)
        of = consumer(setting)
        asked = [
            (FIRST_TIME - 1, 0), (FIRST_TIME, 0), (FIRST_TIME + 1, 1), (FIRST_TIME + 2_340, 234),
            (FIRST_TIME + 2_341, 235), (FIRST_TIME + 3_990, 399), (FIRST_TIME + 3_991, OFFSET_END),
        ]
        for time, expected in asked:
            told = of.offsets_for_times([TopicPartition(topic, 0, time)], timeout=5)[0]
            equal(told.error, None, topic)
            equal(told.offset, expected, f"{topic}, {time - FIRST_TIME} ms after the first")
        of.assign(of.offsets_for_times([TopicPartition(topic, 0, FIRST_TIME + 2_341)], timeout=5))
        equal(offsets(take(of, 1)), [235], "read from there")
        of.close()


def pause(setting: Setting) -> None:
    """What is paused stands still while the rest goes on, and misses nothing."""
    fill(setting, "pause", 50, partitions=2)
    of = consumer(setting)
    both = [TopicPartition("pause", partition, OFFSET_BEGINNING) for partition in range(2)]
    of.assign(both)
    of.pause([TopicPartition("pause", 0)])
    seen = take(of, 50)
    equal([(message.partition(), message.offset()) for message in seen], [(1, n) for n in range(50)], "paused")
    check(of.poll(0.3) is None, "a record of the paused partition")
    of.resume([TopicPartition("pause", 0)])
    seen = take(of, 50)
    equal([(message.partition(), message.offset()) for message in seen], [(0, n) for n in range(50)], "resumed")
    of.close()


def commit(setting: Setting) -> None:
    """Waited for or not; with words of one's own; read back here, by another consumer, and begun from."""
    fill(setting, "commit", 30, partitions=2)
    partitions = [TopicPartition("commit", partition) for partition in range(2)]
    told: list[tuple[Optional[KafkaError], list[TopicPartition]]] = []
    of = consumer(setting, group_id="committer", on_commit=lambda *outcome: told.append(outcome))

    def before_any() -> Optional[list[int]]:
        try:
            return [of.offset for of in of.committed(partitions, 20)]
        except KafkaException as error:
            # The first group of all: who is named its coordinator may have yet to hear of it.
            equal(error.args[0].code(), KafkaError.NOT_COORDINATOR, error)
            return None

    equal(eventually("a coordinator", before_any), [OFFSET_INVALID] * 2, "before any")
    of.assign([TopicPartition("commit", 0, OFFSET_BEGINNING)])
    last = take(of, 10)[-1]
    done = of.commit(message=last, asynchronous=False)
    equal([(of.partition, of.offset, of.error) for of in done], [(0, 10, None)], "committed and waited for")
    of.commit(offsets=[TopicPartition("commit", 1, 7, "a word", 0)], asynchronous=True)

    def is_told() -> bool:
        of.poll(0.1)
        return bool(told)

    eventually("the outcome of the commit that was not waited for", is_told)
    equal([(error, [of.offset for of in places]) for error, places in told], [(None, [7])], "outcome")
    other = consumer(setting, group_id="committer")
    seen = other.committed(partitions, 20)
    equal([(of.offset, of.metadata) for of in seen], [(10, None), (7, "a word")], "read by another")
    check(seen[0].leader_epoch is not None, "the leader epoch is kept")
    other.assign(partitions)
    seen = sorted((message.partition(), message.offset()) for message in take(other, 20 + 23))
    equal(seen, [(0, n) for n in range(10, 30)] + [(1, n) for n in range(7, 30)], "read on from there")
    other.close()
    try:
        of.commit(offsets=[TopicPartition("commit", 0, 1, "x" * 5_000)], asynchronous=False)
        check(False, "words without end were taken")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.OFFSET_METADATA_TOO_LARGE, "5,000 letters")
    equal(of.committed(partitions[:1], 20)[0].offset, 10, "a refused commit changes nothing")
    of.close()


def where_nothing_is_committed(setting: Setting) -> None:
    """auto.offset.reset: earliest, latest, or an error that is told."""
    fill(setting, "reset", 20)
    of = consumer(setting, auto_offset_reset="earliest", enable_partition_eof=True)
    of.assign([TopicPartition("reset", 0)])
    equal(offsets(take(of, 20)), list(range(20)), "earliest")
    end = of.poll(10)
    equal((end.error().code(), end.offset()), (KafkaError._PARTITION_EOF, 20), "the end is told")
    of.close()
    of = consumer(setting, auto_offset_reset="latest", enable_partition_eof=True)
    of.assign([TopicPartition("reset", 0)])
    end = of.poll(10)
    equal((end.error().code(), end.offset()), (KafkaError._PARTITION_EOF, 20), "latest")
    producer = Producer({"bootstrap.servers": setting.bootstrap})
    producer.produce("reset", b"new")
    producer.flush(10)
    equal(offsets(take(of, 1)), [20], "what came after latest")
    of.close()
    of = consumer(setting)
    of.assign([TopicPartition("reset", 0)])
    equal(of.poll(10).error().code(), KafkaError._AUTO_OFFSET_RESET, "error")
    of.close()


def out_of_range(setting: Setting) -> None:
    """Offsets above the end and below the start: what auto.offset.reset says, at once."""
    fill(setting, "range", 40)
    admin = AdminClient({"bootstrap.servers": setting.bootstrap})
    place = TopicPartition("range", 0, 15)
    equal(admin.delete_records([place])[place].result(10).low_watermark, 15, "deleted")
    for offset in (3, 1_000):
        of = consumer(setting, auto_offset_reset="earliest")
        of.assign([TopicPartition("range", 0, offset)])
        equal(offsets(take(of, 1)), [15], f"earliest in place of {offset}")
        of.close()
        of = consumer(setting, auto_offset_reset="latest", enable_partition_eof=True)
        of.assign([TopicPartition("range", 0, offset)])
        equal(of.poll(10).offset(), 40, f"latest in place of {offset}")
        of.close()
        of = consumer(setting)
        of.assign([TopicPartition("range", 0, offset)])
        equal(of.poll(10).error().code(), KafkaError._AUTO_OFFSET_RESET, f"error in place of {offset}")
        of.close()
    of = consumer(setting)
    equal(of.get_watermark_offsets(TopicPartition("range", 0), timeout=5), (15, 40), "watermarks")
    of.close()


def read_committed(setting: Setting) -> None:
    """Where nobody uses transactions, both isolation levels read the same, to the same end."""
    fill(setting, "isolated", 20)
    for level in ("read_committed", "read_uncommitted"):
        of = consumer(setting, isolation_level=level, enable_partition_eof=True)
        of.assign([TopicPartition("isolated", 0, OFFSET_BEGINNING)])
        equal(offsets(take(of, 20)), list(range(20)), level)
        equal(of.poll(10).offset(), 20, f"the end by {level}")
        of.close()


def large_batches(setting: Setting) -> None:
    """A fetch smaller than a batch gets it whole: nobody sticks."""
    fill(setting, "large", 0)
    producer = Producer({"bootstrap.servers": setting.bootstrap, "linger.ms": 50})
    lines = [log_line(number) * 50 for number in range(500)]
    for line in lines:
        producer.produce("large", line)
    producer.flush(10)
    of = consumer(setting, fetch_message_max_bytes=1_000, fetch_max_bytes=1_000, message_max_bytes=1_000)
    of.assign([TopicPartition("large", 0, OFFSET_BEGINNING)])
    equal([message.value() for message in take(of, 500)], lines, "values")
    of.close()


CHECKS = [
    what_others_wrote, seek, by_time, pause, commit, where_nothing_is_committed, out_of_range, read_committed,
    large_batches,
]

if __name__ == "__main__":
    main(CHECKS)
