"""Clients by kafka-python.

What is kafka-python's and not ours: back-offs and time-outs, set here as for librdkafka; and that listeners
of rebalances run in its own thread, which must not wait, so that nothing is committed while partitions are
revoked: what was handled since the last commit is delivered again.
"""

import logging
import sys
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError

# Records handed over in one round at most.
POLL_MAX = 500


def configuration(options):
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.WARNING)
    return {
        "bootstrap_servers": options.bootstrap.split(","),
        "client_id": options.name,
        # A broker that is stopped or cut off is given up after this, and its requests asked again elsewhere.
        "request_timeout_ms": max(3000, options.session_ms) + 1000,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 500,
        "retry_backoff_ms": 50,
        "metadata_max_age_ms": 2000,
    }


class Producer:
    """Idempotent, acks=all."""

    def __init__(self, options, lines):
        self.topic = options.topic
        self.lines = lines
        # Counted by one thread each: ours, and that of the library.
        self.sent = 0
        self.ended = 0
        settings = configuration(options) | {
            "enable_idempotence": True,
            "acks": "all",
            "linger_ms": 20,
            "delivery_timeout_ms": 120000,
            "max_block_ms": 20000,
        }
        self.client = KafkaProducer(**settings)

    def under_way(self):
        return self.sent - self.ended

    def send(self, number, partition, payload):
        def acknowledged(metadata):
            self.lines.settled(number, metadata.partition, metadata.offset, None)
            self.ended += 1

        def failed(error):
            self.lines.settled(number, partition, -1, repr(error))
            self.ended += 1

        try:
            future = self.client.send(self.topic, value=payload, partition=partition)
        except KafkaError as error:
            self.lines.settled(number, partition, -1, repr(error))
            return
        self.sent += 1
        future.add_callback(acknowledged)
        future.add_errback(failed)

    def poll(self, seconds):
        time.sleep(seconds)

    def close(self):
        self.client.close(timeout=5)


class Reader(ConsumerRebalanceListener):
    """A member of a group, or a reader of everything. Listeners run while `poll` waits for them."""

    def __init__(self, options, lines, group):
        self.topic = options.topic
        self.lines = lines
        self.group = group
        # The next offset of each partition that is owned and was delivered something.
        self.positions = {}
        # What was last asked to be committed.
        self.asked = {}
        self.is_committing = False
        settings = configuration(options) | {
            "group_id": group,
            "enable_auto_commit": False,
            # A reader without a group never finds its place gone.
            "auto_offset_reset": "earliest" if group else "none",
            "fetch_max_wait_ms": 100,
        }
        if group:
            settings |= {
                "session_timeout_ms": options.session_ms,
                "heartbeat_interval_ms": max(100, options.session_ms // 6),
                # How long a rebalance waits for a member that is gone.
                "max_poll_interval_ms": max(4000, options.session_ms),
                "partition_assignment_strategy": [RangePartitionAssignor],
            }
        self.client = KafkaConsumer(**settings)
        if group:
            self.client.subscribe([self.topic], listener=self)
        else:
            everything = [TopicPartition(self.topic, p) for p in range(options.partitions)]
            self.client.assign(everything)
            for partition in everything:
                self.client.seek(partition, 0)

    def poll(self, seconds):
        try:
            found = self.client.poll(timeout_ms=int(seconds * 1000), max_records=POLL_MAX)
        except KafkaError as error:
            # It tells of a broken connection while a group is joined; users ask again.
            if not error.retriable:
                raise
            self.lines.note(f"poll: {error!r}")
            return
        for partition, records in found.items():
            for record in records:
                self.positions[partition.partition] = record.offset + 1
                self.lines.delivered(partition.partition, record.offset, record.value)

    def on_partitions_assigned(self, assigned):
        self.lines.say_delivered()
        member = self.client.group_metadata().member_id
        numbers = [partition.partition for partition in assigned]
        self.lines.say(event="assigned", at=self.lines.now(), member=member, partitions=numbers)

    def on_partitions_revoked(self, revoked):
        self.give_up("revoked", revoked)

    def on_partitions_lost(self, lost):
        self.give_up("lost", lost)

    def give_up(self, how, partitions):
        self.lines.say_delivered()
        numbers = [partition.partition for partition in partitions]
        self.lines.say(event=how, at=self.lines.now(), partitions=numbers)
        for number in numbers:
            self.positions.pop(number, None)
            self.asked.pop(number, None)

    def to_commit(self):
        moved = {p: at for p, at in list(self.positions.items()) if self.asked.get(p) != at}
        self.asked.update(moved)
        return moved

    def offsets(self, moved):
        return {TopicPartition(self.topic, p): OffsetAndMetadata(at, "", -1) for p, at in moved.items()}

    def commit(self):
        """Asks for a commit of all that moved; one at a time."""
        moved = {} if self.is_committing else self.to_commit()
        if not moved:
            return
        begun = self.lines.now()
        self.is_committing = True

        def committed(_, outcome):
            self.is_committing = False
            self.say_committed(begun, moved, outcome if isinstance(outcome, Exception) else None)

        self.client.commit_async(self.offsets(moved), callback=committed)

    def say_committed(self, begun, moved, error):
        error = None if error is None else repr(error)
        offsets = [(number, offset, error) for number, offset in moved.items()]
        self.lines.say(event="committed", begun=begun, at=self.lines.now(), offsets=offsets)

    def close(self):
        moved = self.to_commit() if self.group else {}
        if moved:
            begun, error = self.lines.now(), None
            try:
                self.client.commit(self.offsets(moved), timeout_ms=5000)
            except KafkaError as raised:
                error = raised
            self.say_committed(begun, moved, error)
        # Leaves the group.
        self.client.close()
