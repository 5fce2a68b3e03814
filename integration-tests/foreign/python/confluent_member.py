"""A member of a consumer group with confluent-kafka; see member.py."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaException, TopicPartition
from member import HEARTBEAT_MS, Member


def main() -> None:
    """Reads until SIGTERM."""
    member = Member()
    settings = {
        "bootstrap.servers": member.bootstrap,
        "group.id": member.group,
        "partition.assignment.strategy": member.strategy,
        "session.timeout.ms": member.session_timeout_ms,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 100,
    }
    if member.instance is not None:
        settings["group.instance.id"] = member.instance
    consumer = Consumer(settings)

    def places(positions: dict[int, int]) -> list[TopicPartition]:
        return [TopicPartition(member.topic, *of) for of in positions.items()]

    def on_assign(_: Consumer, partitions: list[TopicPartition]) -> None:
        member.tell("assigned", partitions=[of.partition for of in partitions])

    def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
        positions = member.taken(of.partition for of in partitions)
        if positions:
            try:
                consumer.commit(offsets=places(positions), asynchronous=False)
            except KafkaException as error:
                member.tell("error", text=f"commit: {error}")
        member.tell("revoked", partitions=[of.partition for of in partitions])

    def on_lost(_: Consumer, partitions: list[TopicPartition]) -> None:
        member.taken(of.partition for of in partitions)
        member.tell("lost", partitions=[of.partition for of in partitions])

    consumer.subscribe([member.topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
    while not member.ends:
        # One by one: a rebalance is told between two records and never behind records that are not noted.
        message = consumer.poll(0.1)
        while message is not None and message.error() is None:
            member.note([(message.partition(), message.offset())])
            message = consumer.poll(0)
        if message is not None:
            member.tell("error", text=str(message.error()))
        if member.commit_is_due():
            consumer.commit(offsets=places(member.positions), asynchronous=True)
    consumer.close()
    member.tell("closed")


if __name__ == "__main__":
    main()
