"""confluent-kafka's producer: what it is told of each record, and what then lies in the log."""

from __future__ import annotations

from typing import Any, Optional

from checks import (
    CODECS, Bytes, Headers, Setting, check, equal, eventually, log_line, main, odd_records, record,
)
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, Message, Producer, TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic


class Sender:
    """A producer that keeps the delivery report of every record, in the order they came."""

    def __init__(self, setting: Setting, **settings: Any) -> None:
        self.producer = Producer({"bootstrap.servers": setting.bootstrap} | settings)
        self.failed: list[KafkaError] = []
        self.delivered: list[Message] = []
        self.records: list[dict[str, Any]] = []

    def send(self, topic: str, key: Bytes, value: Bytes, headers: Headers = (), **where: int) -> None:
        """Queues a record."""

        def on_delivery(error: Optional[KafkaError], message: Message) -> None:
            if error is not None:
                self.failed.append(error)
                return
            self.delivered.append(message)
            place = (message.partition(), message.offset(), message.timestamp()[1])
            self.records.append(record(topic, *place, key, value, headers))

        self.producer.produce(topic, value, key, headers=list(headers), on_delivery=on_delivery, **where)

    def flush(self) -> None:
        """Waits for every report; none may tell of an error."""
        equal(self.producer.flush(20), 0, "records without a report")
        equal(self.failed, [], "failed")


def create(setting: Setting, topic: str, partitions: int = 1, **config: str) -> None:
    """Creates a topic."""
    admin = AdminClient({"bootstrap.servers": setting.bootstrap})
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(10)


def end_of(setting: Setting, topic: str) -> int:
    """The end of a topic's only partition."""
    consumer = Consumer({"bootstrap.servers": setting.bootstrap, "group.id": "none"})
    end: int = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)[1]
    consumer.close()
    return end


def every_codec(setting: Setting) -> None:
    """Plain and idempotent producers, each codec: offsets are dense and told right."""
    for codec in CODECS:
        for idempotent in (False, True):
            topic = f"{codec}-{'idempotent' if idempotent else 'plain'}"
            create(setting, topic)
            settings = {"compression.type": codec, "linger.ms": 20, "enable.idempotence": idempotent}
            sender = Sender(setting, **settings)
            for number in range(2_000):
                sender.send(topic, b"key-%d" % (number % 100), log_line(number), [("n", b"%d" % number)])
            sender.flush()
            offsets = [message.offset() for message in sender.delivered]
            equal(offsets, list(range(2_000)), topic)
            kinds = {message.timestamp()[0] for message in sender.delivered}
            equal(kinds, {TIMESTAMP_CREATE_TIME}, topic)
            setting.leave(topic, sender.records)


def odd(setting: Setting) -> None:
    """Nulls, empty strings, bytes that are no text, headers of one name, times of one's own."""
    create(setting, "odd")
    sender = Sender(setting)
    for key, value, headers, timestamp in odd_records():
        sender.send("odd", key, value, headers, timestamp=timestamp)
    sender.flush()
    setting.leave("odd", sender.records)


def keys_choose_partitions(setting: Setting) -> None:
    """By murmur2, as Java's clients and our producer choose."""
    create(setting, "keys", partitions=7)
    sender = Sender(setting, partitioner="murmur2_random")
    for number in range(300):
        sender.send("keys", b"key-%d" % (number % 100), b"%d" % number)
    sender.flush()
    setting.leave("keys", sender.records)


def acks(setting: Setting) -> None:
    """All: the offset is told. One: too. None: it is not, but the record arrives."""
    create(setting, "acks")
    for expected, wanted in enumerate(["all", "1"]):
        sender = Sender(setting, acks=wanted)
        sender.send("acks", None, b"x")
        sender.flush()
        equal([message.offset() for message in sender.delivered], [expected], wanted)
    sender = Sender(setting, acks="0")
    sender.send("acks", None, b"x")
    sender.flush()
    equal([message.offset() for message in sender.delivered], [None], "acks=0")
    eventually("a record sent with acks=0", lambda: end_of(setting, "acks") == 3)


def too_large(setting: Setting) -> None:
    """The broker refuses what is over the topic's limit, and only that; idempotent producers go on."""
    create(setting, "limited", max_message_bytes="50000")
    for idempotent in (False, True):
        sender = Sender(setting, **{"enable.idempotence": idempotent, "message.max.bytes": 5_000_000})
        for size in (10, 60_000, 20):
            sender.send("limited", None, b"x" * size)
            sender.producer.flush(20)
        codes = [error.code() for error in sender.failed]
        equal(codes, [KafkaError.MSG_SIZE_TOO_LARGE], f"idempotent {idempotent}")
        equal(len(sender.delivered), 2, "the others")
    equal(end_of(setting, "limited"), 4, "the end")


def time_of_the_log(setting: Setting) -> None:
    """A topic may have the broker stamp records; the report tells that time."""
    create(setting, "stamped", message_timestamp_type="LogAppendTime")
    sender = Sender(setting)
    sender.send("stamped", b"k", b"v", timestamp=1_000)
    sender.flush()
    kind, time = sender.delivered[0].timestamp()
    equal(kind, TIMESTAMP_LOG_APPEND_TIME, "kind of time")
    check(time > 1_700_000_000_000, time)
    setting.leave("stamped", sender.records)


def topics_made_by_producing(setting: Setting) -> None:
    """With auto.create.topics.enable a missing topic is made by producing, and by nothing else."""
    consumer = Consumer({
        "bootstrap.servers": setting.bootstrap,
        "group.id": "curious",
        "auto.offset.reset": "earliest",
        "topic.metadata.refresh.interval.ms": 200,
    })
    consumer.subscribe(["made"])
    message = consumer.poll(10)
    check(message is not None, "a missing topic is told")
    equal(message.error().code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "a missing topic")
    admin = AdminClient({"bootstrap.servers": setting.bootstrap})
    check("made" not in admin.list_topics(timeout=5).topics, "made by consuming")
    sender = Sender(setting, **{"allow.auto.create.topics": False, "topic.metadata.propagation.max.ms": 500})
    sender.send("made", None, b"x")
    sender.producer.flush(20)
    check(sender.failed[0].code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART), sender.failed)
    check("made" not in admin.list_topics(timeout=5).topics, "made although the producer forbade it")

    sender = Sender(setting)
    sender.send("made", None, b"x")
    sender.flush()
    equal(sender.delivered[0].offset(), 0, "the first record")

    def consumed() -> bool:
        message = consumer.poll(1)
        return message is not None and message.error() is None and message.value() == b"x"

    eventually("the consumer that was there before", consumed)
    consumer.close()


def no_topics_are_made(setting: Setting) -> None:
    """Without auto.create.topics.enable nothing makes a topic."""
    sender = Sender(setting, **{"topic.metadata.propagation.max.ms": 500})
    sender.send("never", None, b"x")
    sender.producer.flush(20)
    codes = [error.code() for error in sender.failed]
    check(codes in ([KafkaError._UNKNOWN_TOPIC], [KafkaError.UNKNOWN_TOPIC_OR_PART]), sender.failed)
    admin = AdminClient({"bootstrap.servers": setting.bootstrap})
    check("never" not in admin.list_topics(timeout=5).topics, "made")


CHECKS = [
    every_codec, odd, keys_choose_partitions, acks, too_large, time_of_the_log, topics_made_by_producing,
    no_topics_are_made,
]

if __name__ == "__main__":
    main(CHECKS)
