"""kafka-python's producer: what it is told of each record, and what then lies in the log."""

from __future__ import annotations

from typing import Any

from checks import (
    CODECS, Bytes, Headers, Setting, check, equal, eventually, log_line, main, odd_records, record,
)
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from kafka.producer.future import FutureRecordMetadata


class Sender:
    """A producer that keeps what was sent with the promise of each record's place."""

    def __init__(self, setting: Setting, **settings: Any) -> None:
        self.producer = KafkaProducer(bootstrap_servers=setting.bootstrap, **settings)
        self.sent: list[tuple[str, Bytes, Bytes, Headers, FutureRecordMetadata]] = []

    def send(self, topic: str, key: Bytes, value: Bytes, headers: Headers = (), **where: int) -> None:
        """Queues a record."""
        future = self.producer.send(topic, value, key, list(headers), **where)
        self.sent.append((topic, key, value, headers, future))

    def places(self) -> list[tuple[int, int, int]]:
        """Waits for partition, offset and time of every record."""
        places = [future.get(20) for *_, future in self.sent]
        return [(place.partition, place.offset, place.timestamp) for place in places]

    def records(self) -> list[dict[str, Any]]:
        """All that was sent, with its place."""
        places = zip(self.sent, self.places())
        return [record(topic, *place, key, value, headers) for (topic, key, value, headers, _), place in places]


def create(setting: Setting, topic: str, partitions: int = 1, **config: str) -> None:
    """Creates a topic."""
    admin = KafkaAdminClient(bootstrap_servers=setting.bootstrap)
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
    admin.close()


def end_of(setting: Setting, topic: str) -> int:
    """The end of a topic's only partition."""
    consumer = KafkaConsumer(bootstrap_servers=setting.bootstrap)
    end: int = consumer.end_offsets([TopicPartition(topic, 0)])[TopicPartition(topic, 0)]
    consumer.close()
    return end


def every_codec(setting: Setting) -> None:
    """Plain and idempotent producers, each codec: offsets are dense and told right."""
    for codec in CODECS:
        for idempotent in (False, True):
            topic = f"{codec}-{'idempotent' if idempotent else 'plain'}"
            create(setting, topic)
            compression = None if codec == "none" else codec
            sender = Sender(setting, compression_type=compression, linger_ms=20, enable_idempotence=idempotent)
            for number in range(500):
                sender.send(topic, b"key-%d" % (number % 100), log_line(number), [("n", b"%d" % number)])
            records = sender.records()
            equal([of["offset"] for of in records], list(range(500)), topic)
            setting.leave(topic, records)
            sender.producer.close()


def odd(setting: Setting) -> None:
    """Empty strings, bytes that are no text, headers of one name, times of one's own."""
    create(setting, "odd")
    sender = Sender(setting)
    for key, value, headers, timestamp in odd_records():
        # What this client refuses to send.
        if (key, value) == (None, None) or any(text is None for _, text in headers):
            continue
        sender.send("odd", key, value, headers, timestamp_ms=timestamp)
    setting.leave("odd", sender.records())


def keys_choose_partitions(setting: Setting) -> None:
    """By murmur2, as Java's clients and our producer choose."""
    create(setting, "keys", partitions=7)
    sender = Sender(setting)
    for number in range(300):
        sender.send("keys", b"key-%d" % (number % 100), b"%d" % number)
    setting.leave("keys", sender.records())


def acks(setting: Setting) -> None:
    """All: the offset is told. One: too. None: it is not, but the record arrives."""
    create(setting, "acks")
    for expected, wanted in [(0, "all"), (1, 1), (0, 0)]:
        sender = Sender(setting, acks=wanted, enable_idempotence=False)
        sender.send("acks", None, b"x")
        # Without an answer this client says 0.
        equal(sender.places()[0][1], expected, f"acks={wanted}")
        sender.producer.close()
    eventually("a record sent with acks=0", lambda: end_of(setting, "acks") == 3)


def too_large(setting: Setting) -> None:
    """The broker refuses what is over the topic's limit, and only that."""
    create(setting, "limited", max_message_bytes="50000")
    for idempotent in (False, True):
        sender = Sender(setting, enable_idempotence=idempotent, max_request_size=5_000_000)
        sender.send("limited", None, b"x" * 10)
        sender.places()
        refused = sender.producer.send("limited", b"x" * 60_000)
        try:
            refused.get(20)
            check(False, "taken")
        except MessageSizeTooLargeError:
            pass
        # This client's idempotent producer gives up with the first error that it cannot retry.
        if not idempotent:
            sender.send("limited", None, b"x" * 20)
            sender.places()
        sender.producer.close()
    equal(end_of(setting, "limited"), 3, "the end")


def time_of_the_log(setting: Setting) -> None:
    """A topic may have the broker stamp records; the producer is told that time."""
    create(setting, "stamped", message_timestamp_type="LogAppendTime")
    sender = Sender(setting)
    sender.send("stamped", b"k", b"v", timestamp_ms=1_000)
    check(sender.places()[0][2] > 1_700_000_000_000, sender.places())
    setting.leave("stamped", sender.records())


def topics_made_by_producing(setting: Setting) -> None:
    """With auto.create.topics.enable a missing topic is made for a producer."""
    # A consumer of this client asks for topics to be made too, whatever allow_auto_create_topics says (3.0.12).
    sender = Sender(setting)
    sender.send("made", None, b"x")
    equal(sender.places()[0][:2], (0, 0), "the first record")


def no_topics_are_made(setting: Setting) -> None:
    """Without auto.create.topics.enable nothing makes a topic; a consumer finds it when it is there."""
    settings = {"auto_offset_reset": "earliest", "metadata_max_age_ms": 200}
    consumer = KafkaConsumer("later", bootstrap_servers=setting.bootstrap, **settings)
    equal(consumer.poll(500), {}, "records of a missing topic")
    producer = KafkaProducer(bootstrap_servers=setting.bootstrap, max_block_ms=700)
    try:
        producer.send("later", b"x").get(20)
        check(False, "a topic was made by producing")
    except (KafkaTimeoutError, UnknownTopicOrPartitionError):
        pass
    admin = KafkaAdminClient(bootstrap_servers=setting.bootstrap)
    check("later" not in admin.list_topics(), "made")
    create(setting, "later")
    producer.send("later", b"x").get(20)
    found = eventually("the consumer that was there before", lambda: consumer.poll(1_000) or None)
    equal([of.value for of in found[TopicPartition("later", 0)]], [b"x"], "read")
    consumer.close()


CHECKS = [
    every_codec, odd, keys_choose_partitions, acks, too_large, time_of_the_log, topics_made_by_producing,
    no_topics_are_made,
]

if __name__ == "__main__":
    main(CHECKS)
