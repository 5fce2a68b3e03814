"""Clients by confluent-kafka, which is librdkafka.

What is librdkafka's and not ours: it retries, reconnects and looks for new leaders after back-offs of its
own, and gives up a request after a time-out of its own. They are set so that none is long against the
session of a cluster under test; the defaults (a minute, ten seconds) are for others' clusters.
"""

import logging
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer as KafkaProducer, TopicPartition
from confluent_kafka import OFFSET_BEGINNING

# Records handed over in one round at most.
POLL_MAX = 500


def log(name):
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.INFO)
    return logging.getLogger(name)


def configuration(options, lines):
    def on_error(error):
        if error.fatal():
            lines.fatal(f"{error}")
        lines.note(f"error: {error}")

    return {
        "bootstrap.servers": options.bootstrap,
        "client.id": options.name,
        "error_cb": on_error,
        # A broker that is stopped or cut off is given up after this, and its requests asked again elsewhere.
        "socket.timeout.ms": max(3000, options.session_ms),
        "socket.connection.setup.timeout.ms": 3000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "retry.backoff.ms": 50,
        "retry.backoff.max.ms": 500,
        "topic.metadata.refresh.interval.ms": 2000,
        "topic.metadata.refresh.fast.interval.ms": 100,
    }


class Producer:
    """Idempotent, acks=all."""

    def __init__(self, options, lines):
        self.topic = options.topic
        self.lines = lines
        self.left = 0
        settings = configuration(options, lines) | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 20,
            "delivery.timeout.ms": 120000,
        }
        self.client = KafkaProducer(settings, logger=log(options.name))

    def under_way(self):
        return self.left

    def send(self, number, partition, payload):
        def delivered(error, message):
            self.left -= 1
            offset = message.offset() if error is None else None
            self.lines.settled(number, message.partition(), -1 if offset is None else offset, error)

        try:
            self.client.produce(self.topic, payload, partition=partition, on_delivery=delivered)
            self.left += 1
        except (BufferError, KafkaException) as error:
            self.lines.settled(number, partition, -1, error)

    def poll(self, seconds):
        self.client.poll(seconds)

    def close(self):
        self.client.flush(5)


class Reader:
    """A member of a group, or a reader of everything."""

    def __init__(self, options, lines, group):
        self.topic = options.topic
        self.lines = lines
        # The next offset of each partition that is owned and was delivered something.
        self.positions = {}
        # What was last asked to be committed.
        self.asked = {}
        self.committing = None
        settings = configuration(options, lines) | {
            "group.id": group or f"none-of-{options.name}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # A reader without a group never finds its place gone.
            "auto.offset.reset": "earliest" if group else "error",
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
        }
        if group:
            settings |= {
                "session.timeout.ms": options.session_ms,
                "heartbeat.interval.ms": max(100, options.session_ms // 6),
                # How long a rebalance waits for a member that is gone.
                "max.poll.interval.ms": max(4000, options.session_ms),
                "partition.assignment.strategy": "range",
                "on_commit": self.committed,
            }
        self.client = Consumer(settings, logger=log(options.name))
        if group:
            self.client.subscribe(
                [self.topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost
            )
        else:
            everything = range(options.partitions)
            self.client.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p in everything])

    def poll(self, seconds):
        for _ in range(POLL_MAX):
            message = self.client.poll(seconds)
            if message is None:
                return
            seconds = 0
            error = message.error()
            if error is None:
                self.positions[message.partition()] = message.offset() + 1
                self.lines.delivered(message.partition(), message.offset(), message.value())
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                self.lines.fatal(error)
            else:
                self.lines.note(f"poll: {error}")

    def assigned(self, _, partitions):
        # Said before the committed offsets are asked for, which follows.
        self.lines.say_delivered()
        numbers = [partition.partition for partition in partitions]
        member = self.client.memberid()
        self.lines.say(event="assigned", at=self.lines.now(), member=member, partitions=numbers)

    def revoked(self, _, partitions):
        # What was handled is committed while the group waits for it.
        self.lines.say_delivered()
        self.commit_now([partition.partition for partition in partitions])
        self.give_up("revoked", partitions)

    def lost(self, _, partitions):
        self.lines.say_delivered()
        self.give_up("lost", partitions)

    def give_up(self, how, partitions):
        numbers = [partition.partition for partition in partitions]
        self.lines.say(event=how, at=self.lines.now(), partitions=numbers)
        for number in numbers:
            self.positions.pop(number, None)
            self.asked.pop(number, None)

    def to_commit(self, among):
        moved = [p for p in among if p in self.positions and self.asked.get(p) != self.positions[p]]
        offsets = [(p, self.positions[p]) for p in moved]
        self.asked.update(offsets)
        return offsets

    def commit(self):
        """Asks for a commit of all that moved; one at a time."""
        if self.committing is not None:
            return
        offsets = self.to_commit(list(self.positions))
        if not offsets:
            return
        self.committing = (self.lines.now(), offsets)
        try:
            self.client.commit(offsets=self.partitions(offsets), asynchronous=True)
        except KafkaException as error:
            self.committed(error.args[0], [])

    def committed(self, error, partitions):
        """Of a commit that was asked for without waiting."""
        if self.committing is None:
            return
        (begun, offsets), self.committing = self.committing, None
        self.say_committed(begun, offsets, error, partitions)

    def commit_now(self, among):
        offsets = self.to_commit(among)
        if not offsets:
            return
        begun = self.lines.now()
        error, partitions = None, []
        try:
            partitions = self.client.commit(offsets=self.partitions(offsets), asynchronous=False)
        except KafkaException as raised:
            error = raised.args[0]
        self.say_committed(begun, offsets, error, partitions)

    def say_committed(self, begun, offsets, error, partitions):
        """An outcome that is not told is not a confirmation."""
        told = {partition.partition: partition for partition in partitions or []}
        outcomes = []
        for number, offset in offsets:
            outcome = error
            if outcome is None:
                outcome = told[number].error if number in told else "not told"
            outcomes.append((number, offset, None if outcome is None else str(outcome)))
        self.lines.say(event="committed", begun=begun, at=self.lines.now(), offsets=outcomes)

    def partitions(self, offsets):
        return [TopicPartition(self.topic, number, offset) for number, offset in offsets]

    def close(self):
        # Leaves the group, by way of `revoked`, which commits.
        self.client.close()
