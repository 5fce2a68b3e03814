"""A member of a consumer group with kafka-python; see member.py."""

from __future__ import annotations

from typing import Iterable

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata
from member import HEARTBEAT_MS, Member

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


class Listener(AsyncConsumerRebalanceListener):
    """Tells of rebalances; commits what is revoked. Runs beside the loop of `main`, in the client's thread."""

    def __init__(self, member: Member, consumer: KafkaConsumer) -> None:
        self.member = member
        self.consumer = consumer

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.member.tell("assigned", partitions=sorted(of.partition for of in assigned))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        partitions = sorted(of.partition for of in revoked)
        positions = self.member.taken(partitions)
        if positions:
            try:
                await self.consumer.commit_async(places(self.member, positions))
            except KafkaError as error:
                self.member.tell("error", text=f"commit: {error}")
        self.member.tell("revoked", partitions=partitions)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        partitions = sorted(of.partition for of in lost)
        self.member.taken(partitions)
        self.member.tell("lost", partitions=partitions)


def places(member: Member, positions: dict[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    """Positions as this client commits them."""
    named = positions.items()
    return {TopicPartition(member.topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in named}


def main() -> None:
    """Reads until SIGTERM."""
    member = Member()
    consumer = KafkaConsumer(
        bootstrap_servers=member.bootstrap,
        group_id=member.group,
        group_instance_id=member.instance,
        partition_assignment_strategy=[STRATEGIES[member.strategy]],
        session_timeout_ms=member.session_timeout_ms,
        heartbeat_interval_ms=HEARTBEAT_MS,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        reconnect_backoff_max_ms=500,
    )
    consumer.subscribe([member.topic], listener=Listener(member, consumer))
    while not member.ends:
        found = consumer.poll(100)
        member.note((of.partition, of.offset) for records in found.values() for of in records)
        if member.commit_is_due():
            consumer.commit_async(places(member, dict(member.positions)))
    consumer.close()
    member.tell("closed")


if __name__ == "__main__":
    main()
