"""confluent-kafka's admin client: what it asks for is done, what it is told is so."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Mapping, Optional

from checks import Setting, check, equal, eventually, main
from confluent_kafka import (
    Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, ElectionType, KafkaError, KafkaException, Producer,
    TopicCollection, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, OffsetSpec,
    ResourceType,
)

FIRST_TIME = 1_700_000_000_000


def admin_of(setting: Setting) -> AdminClient:
    """An admin client."""
    return AdminClient({"bootstrap.servers": setting.bootstrap})


def codes(futures: Mapping[Any, Future[Any]]) -> dict[Any, int]:
    """The error code of each outcome, 0 where there is none."""

    def code(future: Future[Any]) -> int:
        try:
            future.result(10)
        except KafkaException as error:
            return int(error.args[0].code())
        return 0

    return {name: code(future) for name, future in futures.items()}


def create(setting: Setting, topic: str, partitions: int = 1, **config: str) -> AdminClient:
    """Creates a topic; the client that did."""
    admin = admin_of(setting)
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(10)
    return admin


def fill(setting: Setting, topic: str, records: int) -> None:
    """Record n of partition 0 was made n times 10 ms after FIRST_TIME."""
    producer = Producer({"bootstrap.servers": setting.bootstrap})
    for number in range(records):
        producer.produce(topic, b"%d" % number, partition=0, timestamp=FIRST_TIME + 10 * number)
    equal(producer.flush(10), 0, "not sent")


def load_groups(setting: Setting, admin: AdminClient) -> None:
    """Waits until the coordinator of groups has read what there is: this client's admin does not try again."""
    consumer = Consumer({"bootstrap.servers": setting.bootstrap, "group.id": "any"})

    def loaded() -> bool:
        try:
            consumer.committed([TopicPartition("none", 0)], 10)
        except KafkaException as error:
            equal(error.args[0].code(), KafkaError.NOT_COORDINATOR, error)
            return False
        return not admin.list_consumer_groups().result(10).errors

    eventually("coordinators of groups", loaded)
    consumer.close()


def topics(setting: Setting) -> None:
    """Good and bad ones in one request; validate_only; described, grown, deleted."""
    admin = admin_of(setting)
    checked = admin.create_topics([NewTopic("checked", 2, 1)], validate_only=True)
    equal(codes(checked), {"checked": 0}, "checked only")
    made = admin.create_topics([
        NewTopic("good", 2, 1, config={"retention.ms": "5000"}),
        NewTopic("default", -1, -1),
        NewTopic("none", 0, 1),
        NewTopic("three", 1, 3),
        NewTopic("key", 1, 1, config={"no.such.key": "1"}),
        NewTopic("value", 1, 1, config={"retention.ms": "soon"}),
        NewTopic("bad name", 1, 1),
        NewTopic("placed", 2, replica_assignment=[[1], [1]]),
        NewTopic("misplaced", 1, replica_assignment=[[9]]),
    ])
    expected = {
        "good": 0, "default": 0, "none": KafkaError.INVALID_PARTITIONS, "three": KafkaError.INVALID_REPLICATION_FACTOR,
        "key": KafkaError.INVALID_CONFIG, "value": KafkaError.INVALID_CONFIG,
        "bad name": KafkaError.TOPIC_EXCEPTION, "placed": 0,
        "misplaced": KafkaError.INVALID_REPLICA_ASSIGNMENT,
    }
    equal(codes(made), expected, "made")
    equal(codes(admin.create_topics([NewTopic("good", 1, 1)])), {"good": KafkaError.TOPIC_ALREADY_EXISTS}, "again")

    listed = admin.list_topics(timeout=5)
    there = {name: len(of.partitions) for name, of in listed.topics.items() if name in expected | {"checked": 0}}
    equal(there, {"good": 2, "default": 1, "placed": 2}, "listed")
    described = admin.describe_topics(TopicCollection(["good", "missing"]))
    good = described["good"].result(10)
    equal([of.id for of in good.partitions], [0, 1], "partitions")
    equal([(of.leader.id, [one.id for one in of.replicas]) for of in good.partitions], [(1, [1])] * 2, "replicas")
    check(str(good.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA", good.topic_id)
    equal(codes({"missing": described["missing"]}), {"missing": KafkaError.UNKNOWN_TOPIC_OR_PART}, "missing")

    grow = lambda name, count, **how: codes(admin.create_partitions([NewPartitions(name, count)], **how))
    equal(grow("good", 4, validate_only=True), {"good": 0}, "checked only")
    equal(grow("good", 3), {"good": 0}, "grown")
    equal(grow("good", 2), {"good": KafkaError.INVALID_PARTITIONS}, "fewer")
    equal(grow("missing", 2), {"missing": KafkaError.UNKNOWN_TOPIC_OR_PART}, "missing")
    equal(len(admin.describe_topics(TopicCollection(["good"]))["good"].result(10).partitions), 3, "grown")

    gone = codes(admin.delete_topics(["good", "missing", "default"]))
    equal(gone, {"good": 0, "missing": KafkaError.UNKNOWN_TOPIC_OR_PART, "default": 0}, "deleted")
    eventually("it is listed no more", lambda: "good" not in admin.list_topics(timeout=5).topics)
    create(setting, "good")
    again = admin.describe_topics(TopicCollection(["good"]))["good"].result(10)
    check(str(again.topic_id) != str(good.topic_id), "a topic of the same name is another")


def configs(setting: Setting) -> None:
    """All keys with their sources; changed one by one and all at once; bad values refused."""
    admin = create(setting, "configs", cleanup_policy="compact")
    topic = ConfigResource(ResourceType.TOPIC, "configs")

    def described(resource: ConfigResource) -> dict[str, ConfigEntry]:
        found: dict[str, ConfigEntry] = admin.describe_configs([resource])[resource].result(10)
        return found

    def shown(key: str) -> tuple[str, ConfigSource, bool]:
        entry = described(topic)[key]
        return (entry.value, ConfigSource(entry.source), entry.is_default)

    equal(shown("cleanup.policy"), ("compact", ConfigSource.DYNAMIC_TOPIC_CONFIG, False), "the topic's")
    equal(shown("segment.bytes"), ("1073741824", ConfigSource.DEFAULT_CONFIG, True), "nobody's")
    keys = {
        "cleanup.policy", "retention.ms", "retention.bytes", "segment.bytes", "segment.ms", "max.message.bytes",
        "message.timestamp.type", "min.insync.replicas", "compression.type", "delete.retention.ms",
    }
    check(keys <= described(topic).keys(), keys - described(topic).keys())
    broker = described(ConfigResource(ResourceType.BROKER, "1"))
    equal(broker["broker.id"].value, "1", "the broker's number")
    check(broker["broker.id"].is_read_only and len(broker) > 50, len(broker))
    missing = ConfigResource(ResourceType.TOPIC, "missing")
    equal(codes(admin.describe_configs([missing])), {missing: KafkaError.UNKNOWN_TOPIC_OR_PART}, "missing")

    def alter(operation: AlterConfigOpType, key: str, value: str, **how: bool) -> int:
        entry = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, "configs", incremental_configs=[entry])

        def answer() -> Optional[tuple[int]]:
            code = list(codes(admin.incremental_alter_configs([resource], **how)).values())[0]
            # The controller may be between two terms where the machine is busy; each change may be asked for again.
            return None if code == KafkaError.REQUEST_TIMED_OUT else (code,)

        return eventually("a controller", answer)[0]

    equal(alter(AlterConfigOpType.SET, "retention.ms", "77000", validate_only=True), 0, "checked only")
    equal(alter(AlterConfigOpType.SET, "segment.ms", "88000"), 0, "set")
    equal(alter(AlterConfigOpType.APPEND, "cleanup.policy", "delete"), 0, "append")
    equal(alter(AlterConfigOpType.SET, "retention.ms", "soon"), KafkaError.INVALID_CONFIG, "a bad value")
    equal(alter(AlterConfigOpType.SET, "no.such.key", "1"), KafkaError.INVALID_CONFIG, "a bad key")
    dynamic = ConfigSource.DYNAMIC_TOPIC_CONFIG
    eventually("set", lambda: shown("segment.ms") == ("88000", dynamic, False))
    eventually("append", lambda: shown("cleanup.policy") == ("compact,delete", dynamic, False))
    check(shown("retention.ms")[1] != dynamic, "retention.ms was only to be checked")
    equal(alter(AlterConfigOpType.SUBTRACT, "cleanup.policy", "compact"), 0, "subtract")
    equal(alter(AlterConfigOpType.DELETE, "segment.ms", ""), 0, "delete")
    eventually("subtract", lambda: shown("cleanup.policy") == ("delete", dynamic, False))
    eventually("delete", lambda: shown("segment.ms")[2])
    whole = ConfigResource(ResourceType.TOPIC, "configs", set_config={"retention.bytes": "99"})
    equal(list(codes(admin.alter_configs([whole])).values()), [0], "all at once")
    eventually("what is not named goes", lambda: shown("cleanup.policy")[2])
    eventually("what is named is set", lambda: shown("retention.bytes") == ("99", dynamic, False))


def groups(setting: Setting) -> None:
    """Listed and described with members and what these have; deleted only when empty."""
    admin = create(setting, "grouped", partitions=3)
    load_groups(setting, admin)
    consumer = Consumer({
        "bootstrap.servers": setting.bootstrap, "group.id": "crew", "client.id": "one", "session.timeout.ms": 6000,
        "partition.assignment.strategy": "roundrobin", "enable.auto.commit": False,
    })
    consumer.subscribe(["grouped"])
    eventually("a share", lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == 3)

    def states(**only: Any) -> dict[str, ConsumerGroupState]:
        listed = admin.list_consumer_groups(**only).result(10)
        equal(listed.errors, [], "errors")
        return {of.group_id: of.state for of in listed.valid if of.group_id in ("crew", "idle")}

    admin.alter_consumer_group_offsets([
        ConsumerGroupTopicPartitions("idle", [TopicPartition("grouped", 0, 5)])
    ])["idle"].result(10)
    equal(states(), {"crew": ConsumerGroupState.STABLE, "idle": ConsumerGroupState.EMPTY}, "listed")
    equal(states(states={ConsumerGroupState.EMPTY}), {"idle": ConsumerGroupState.EMPTY}, "the empty ones")
    described = admin.describe_consumer_groups(["crew", "idle", "missing"])
    crew = described["crew"].result(10)
    equal((crew.state, crew.partition_assignor), (ConsumerGroupState.STABLE, "roundrobin"), "described")
    member = crew.members[0]
    equal((len(crew.members), member.client_id), (1, "one"), "its member")
    held = sorted((of.topic, of.partition) for of in member.assignment.topic_partitions)
    equal(held, [("grouped", partition) for partition in range(3)], "what it has")
    equal((crew.coordinator.id, crew.is_simple_consumer_group), (1, False), "coordinator")
    equal(described["idle"].result(10).state, ConsumerGroupState.EMPTY, "idle")
    equal(described["missing"].result(10).state, ConsumerGroupState.DEAD, "missing")
    refusals = codes(admin.delete_consumer_groups(["crew", "missing", "idle"]))
    expected = {"crew": KafkaError.NON_EMPTY_GROUP, "missing": KafkaError.GROUP_ID_NOT_FOUND, "idle": 0}
    equal(refusals, expected, "deleted")
    consumer.close()
    equal(states(), {"crew": ConsumerGroupState.EMPTY}, "after it left")
    equal(codes(admin.delete_consumer_groups(["crew"])), {"crew": 0}, "deleted")
    equal(states(), {}, "after the deletion")


def offsets_of_groups(setting: Setting) -> None:
    """Stored, read one by one and all, and guarded while the group has members."""
    admin = create(setting, "offsets", partitions=2)
    load_groups(setting, admin)

    def stored(*partitions: TopicPartition) -> list[tuple[str, int, int]]:
        asked = [ConsumerGroupTopicPartitions("stored", list(partitions) or None)]
        found = admin.list_consumer_group_offsets(asked)["stored"].result(10).topic_partitions
        return sorted((of.topic, of.partition, of.offset) for of in found)

    def store(*partitions: TopicPartition) -> list[int]:
        asked = [ConsumerGroupTopicPartitions("stored", list(partitions))]
        done = admin.alter_consumer_group_offsets(asked)["stored"].result(10).topic_partitions
        return [0 if of.error is None else int(of.error.code()) for of in done]

    equal(stored(), [], "of nobody")
    equal(store(TopicPartition("offsets", 0, 5), TopicPartition("offsets", 1, 6)), [0, 0], "stored")
    equal(stored(), [("offsets", 0, 5), ("offsets", 1, 6)], "all")
    equal(stored(TopicPartition("offsets", 1)), [("offsets", 1, 6)], "one")
    equal(store(TopicPartition("offsets", 0, 1)), [0], "back")
    equal(stored(), [("offsets", 0, 1), ("offsets", 1, 6)], "all")
    consumer = Consumer({"bootstrap.servers": setting.bootstrap, "group.id": "stored", "session.timeout.ms": 6000})
    consumer.subscribe(["offsets"])
    eventually("a share", lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == 2)
    equal(store(TopicPartition("offsets", 0, 2)), [KafkaError.UNKNOWN_MEMBER_ID], "with members")
    consumer.close()


def records(setting: Setting) -> None:
    """Deleted up to an offset; offsets by kind and by time."""
    admin = create(setting, "records")
    fill(setting, "records", 50)
    place = TopicPartition("records", 0)

    def offset(spec: OffsetSpec) -> tuple[int, int]:
        told = admin.list_offsets({place: spec})[place].result(10)
        return (told.offset, told.timestamp)

    equal(offset(OffsetSpec.earliest()), (0, -1), "earliest")
    equal(offset(OffsetSpec.latest()), (50, -1), "latest")
    equal(offset(OffsetSpec.for_timestamp(FIRST_TIME + 121)), (13, FIRST_TIME + 130), "by time")
    equal(offset(OffsetSpec.max_timestamp()), (49, FIRST_TIME + 490), "the latest time")
    delete = lambda topic, below: admin.delete_records([TopicPartition(topic, 0, below)])
    equal([of.result(10).low_watermark for of in delete("records", 20).values()], [20], "deleted")
    equal(offset(OffsetSpec.earliest()), (20, -1), "earliest after it")
    equal(list(codes(delete("records", 51)).values()), [KafkaError.OFFSET_OUT_OF_RANGE], "above the end")
    equal(list(codes(delete("missing", 1)).values()), [KafkaError._NOENT], "a topic without leaders to ask")


def the_cluster(setting: Setting) -> None:
    """Its brokers and its controller, of which one is asked; leaders are elected where one is wanted."""
    admin = create(setting, "elect")
    cluster = admin.describe_cluster().result(10)
    equal([f"{of.host}:{of.port}" for of in cluster.nodes], [setting.bootstrap], "brokers")
    equal((cluster.controller.id, bool(cluster.cluster_id)), (1, True), "controller")
    equal(admin.list_topics(timeout=5).cluster_id, cluster.cluster_id, "the cluster's id")
    places = [TopicPartition("elect", 0), TopicPartition("elect", 7)]
    elected = admin.elect_leaders(ElectionType.PREFERRED, places).result(10)
    seen = {place.partition: None if error is None else error.code() for place, error in elected.items()}
    equal(seen, {0: KafkaError.ELECTION_NOT_NEEDED, 7: KafkaError.UNKNOWN_TOPIC_OR_PART}, "elected")


CHECKS = [topics, configs, groups, offsets_of_groups, records, the_cluster]

if __name__ == "__main__":
    main(CHECKS)
