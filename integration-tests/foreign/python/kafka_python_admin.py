"""kafka-python's admin client: what it asks for is done, what it is told is so."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from checks import Setting, check, equal, eventually, main
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, MemberToRemove, OffsetSpec
from kafka.errors import (
    BrokerResponseError, ElectionNotNeededError, InvalidReplicationAssignmentError, NoError, NoReassignmentInProgressError,
    UnknownMemberIdError, UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

FIRST_TIME = 1_700_000_000_000

# Codes of errors.
MISSING, BAD_NAME, EXISTS, BAD_COUNT, BAD_FACTOR, BAD_PLACE, BAD_CONFIG = 3, 17, 36, 37, 38, 39, 40


def admin_of(setting: Setting) -> KafkaAdminClient:
    """An admin client."""
    return KafkaAdminClient(bootstrap_servers=setting.bootstrap)


def codes(answer: dict[str, Any]) -> dict[str, int]:
    """The error code of each topic in an answer."""
    return {of["name"]: of["error_code"] for of in answer["topics"]}


def topics(setting: Setting) -> None:
    """Good and bad ones in one request; validate_only; described, grown, deleted."""
    admin = admin_of(setting)
    checked = admin.create_topics({"checked": {"num_partitions": 2}}, validate_only=True)
    equal(codes(checked), {"checked": 0}, "checked only")
    wanted: dict[str, dict[str, Any]] = {
        "good": {"num_partitions": 2, "configs": {"retention.ms": "5000"}},
        "default": {},
        "none": {"num_partitions": 0},
        "three": {"replication_factor": 3},
        "key": {"configs": {"no.such.key": "1"}},
        "value": {"configs": {"retention.ms": "soon"}},
        "bad name": {},
        "placed": {"assignments": {0: [1], 1: [1]}},
        "misplaced": {"assignments": {0: [9]}},
    }
    made = admin.create_topics(wanted, raise_errors=False)
    expected = {
        "good": 0, "default": 0, "none": BAD_COUNT, "three": BAD_FACTOR, "key": BAD_CONFIG, "value": BAD_CONFIG,
        "bad name": BAD_NAME, "placed": 0, "misplaced": BAD_PLACE,
    }
    equal(codes(made), expected, "made")
    good = next(of for of in made["topics"] if of["name"] == "good")
    equal((good["num_partitions"], good["replication_factor"]), (2, 1), "what was made")
    equal(good["configs"]["retention.ms"]["value"], "5000", "its settings")
    equal(codes(admin.create_topics(["good"], raise_errors=False)), {"good": EXISTS}, "again")

    described = {of["name"]: of for of in admin.describe_topics() if of["name"] in expected | {"checked": 0}}
    there = {name: len(of["partitions"]) for name, of in described.items()}
    equal(there, {"good": 2, "default": 1, "placed": 2}, "listed")
    equal(described["good"]["topic_id"], good["topic_id"], "its id")
    by_id = admin.describe_topics([UUID(good["topic_id"])])[0]
    equal((by_id["name"], by_id["error_code"]), ("good", 0), "described by id")
    places = [(of["leader_id"], of["replica_nodes"], of["isr_nodes"]) for of in by_id["partitions"]]
    equal(places, [(1, [1], [1])] * 2, "replicas")
    equal(admin.describe_topics(["missing"])[0]["error_code"], MISSING, "missing")

    def grow(count: int, name: str = "good", **how: bool) -> int:
        answer = admin.create_partitions({name: count}, raise_errors=False, **how)
        return int(answer.results[0].error_code)

    equal(grow(4, validate_only=True), 0, "checked only")
    equal(grow(3), 0, "grown")
    equal((grow(2), grow(2, "missing")), (BAD_COUNT, MISSING), "not grown")
    equal(len(admin.describe_topics(["good"])[0]["partitions"]), 3, "grown")

    gone = admin.delete_topics(["good", "missing", "default"], raise_errors=False)
    equal(codes(gone), {"good": 0, "missing": MISSING, "default": 0}, "deleted")
    eventually("it is listed no more", lambda: "good" not in admin.list_topics())
    again = admin.create_topics(["good"])["topics"][0]
    check(again["topic_id"] != good["topic_id"], "a topic of the same name is another")
    admin.delete_topics([UUID(again["topic_id"])])
    eventually("deleted by id", lambda: "good" not in admin.list_topics())
    admin.close()


def configs(setting: Setting) -> None:
    """All keys with their sources; changed one by one and all at once; bad values refused."""
    admin = admin_of(setting)
    admin.create_topics({"configs": {"configs": {"cleanup.policy": "compact"}}})

    def described(kind: str = "topic", name: str = "configs") -> dict[str, dict[str, Any]]:
        resource = ConfigResource(ConfigResourceType[kind.upper()], name)
        found: dict[str, dict[str, Any]] = admin.describe_configs([resource], config_filter="all")[kind][name]
        return found

    def shown(key: str) -> tuple[str, str]:
        entry = described()[key]
        return (entry["value"], str(entry["config_source"]))

    topic, nobody = "DYNAMIC_TOPIC_CONFIG", "DEFAULT_CONFIG"
    equal(shown("cleanup.policy"), ("compact", topic), "the topic's")
    equal(shown("segment.bytes"), ("1073741824", nobody), "nobody's")
    check(len(described()) > 15, "all of a topic's")
    broker = described("broker", "1")
    equal((broker["broker.id"]["value"], broker["broker.id"]["read_only"]), ("1", True), "the broker's number")

    def alter(key: str, *change: Any, **how: bool) -> str:
        resource = ConfigResource(ConfigResourceType.TOPIC, "configs", {key: change})
        try:
            outcome = admin.alter_configs([resource], raise_on_unknown=False, **how)
        except BrokerResponseError as error:
            return type(error).__name__
        return str(outcome["topic"]["configs"])

    done = alter("retention.ms", AlterConfigOp.SET, "77000", validate_only=True)
    equal(alter("segment.ms", AlterConfigOp.SET, "88000"), done, "set")
    equal(alter("cleanup.policy", AlterConfigOp.APPEND, "delete"), done, "append")
    bad = alter("retention.ms", AlterConfigOp.SET, "soon")
    check("InvalidConfig" in bad, bad)
    bad = alter("no.such.key", AlterConfigOp.SET, "1")
    check("InvalidConfig" in bad, bad)
    eventually("set", lambda: shown("segment.ms") == ("88000", topic))
    eventually("append", lambda: shown("cleanup.policy") == ("compact,delete", topic))
    check(shown("retention.ms")[1] != topic, "retention.ms was only to be checked")
    equal(alter("cleanup.policy", AlterConfigOp.SUBTRACT, "compact"), done, "subtract")
    equal(alter("segment.ms", AlterConfigOp.DELETE, None), done, "delete")
    eventually("subtract", lambda: shown("cleanup.policy") == ("delete", topic))
    eventually("delete", lambda: shown("segment.ms")[1] == nobody)
    equal(alter("retention.bytes", AlterConfigOp.SET, "99", incremental=False), done, "not incremental")
    eventually("set", lambda: shown("retention.bytes") == ("99", topic))
    equal(shown("cleanup.policy"), ("delete", topic), "the client named what it kept")
    admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, "configs", ["retention.bytes", "cleanup.policy"])])
    eventually("reset", lambda: shown("retention.bytes")[1] == shown("cleanup.policy")[1] == nobody)
    admin.close()


def load_groups(setting: Setting) -> None:
    """Waits until the coordinator of groups has read what there is."""
    consumer = KafkaConsumer(bootstrap_servers=setting.bootstrap, group_id="any")
    admin = admin_of(setting)

    def loaded() -> bool:
        try:
            consumer.committed(TopicPartition("none", 0))
            admin.list_groups()
        except BrokerResponseError as error:
            check(error.retriable, error)
            return False
        return True

    eventually("coordinators of groups", loaded)
    consumer.close()
    admin.close()


def groups(setting: Setting) -> None:
    """Listed and described with members and what these have; members removed; deleted only when empty."""
    load_groups(setting)
    admin = admin_of(setting)
    admin.create_topics({"grouped": {"num_partitions": 3}})
    settings = {"group_id": "crew", "client_id": "one", "session_timeout_ms": 6000, "enable_auto_commit": False}
    consumer = KafkaConsumer("grouped", bootstrap_servers=setting.bootstrap, group_instance_id="first", **settings)
    eventually("a share", lambda: consumer.poll(100) == {} and len(consumer.assignment()) == 3)
    equal(admin.alter_group_offsets("idle", {TopicPartition("grouped", 0): OffsetAndMetadata(5, "", -1)}),
          {TopicPartition("grouped", 0): NoError}, "a group of offsets only")

    def states(**only: Any) -> dict[str, str]:
        listed = admin.list_groups(**only)
        names = ("crew", "idle")
        return {of["group_id"]: str(of["group_state"]) for of in listed if of["group_id"] in names}

    equal(states(), {"crew": "Stable", "idle": "Empty"}, "listed")
    equal(states(states_filter=["Empty"]), {"idle": "Empty"}, "the empty ones")
    described = admin.describe_groups(["crew", "idle", "missing"])
    crew = described["crew"]
    equal((crew["group_state"], crew["protocol_data"]), ("Stable", "range"), "described")
    member = crew["members"][0]
    equal((member["client_id"], member["group_instance_id"]), ("one", "first"), "its member")
    held = member["member_assignment"]["assigned_partitions"]
    equal([(of["topic"], sorted(of["partitions"])) for of in held], [("grouped", [0, 1, 2])], "what it has")
    equal([described[name]["group_state"] for name in ("idle", "missing")], ["Empty", "Dead"], "the others")
    refusals = admin.delete_groups(["crew", "missing", "idle"])
    equal(refusals, {"crew": "NonEmptyGroupError", "missing": "GroupIdNotFoundError", "idle": "OK"}, "deleted")
    consumer.close()
    equal(states(), {"crew": "Stable"}, "a static member that closes stays")
    gone = [MemberToRemove(group_instance_id="first"), MemberToRemove(group_instance_id="nobody")]
    removed = admin.remove_group_members("crew", gone)
    equal(removed, {"first": NoError, "nobody": UnknownMemberIdError}, "removed")
    equal(states(), {"crew": "Empty"}, "after the removal")
    equal(admin.delete_groups(["crew"]), {"crew": "OK"}, "deleted")
    equal(states(), {}, "after the deletion")
    admin.close()


def offsets_of_groups(setting: Setting) -> None:
    """Stored, read, deleted, reset by kind and by time, and guarded while the group has members."""
    load_groups(setting)
    admin = admin_of(setting)
    admin.create_topics({"offsets": {"num_partitions": 2}})
    producer = KafkaProducer(bootstrap_servers=setting.bootstrap)
    for number in range(10):
        producer.send("offsets", b"x", partition=0, timestamp_ms=FIRST_TIME + 10 * number)
    producer.flush(10)
    first, second = TopicPartition("offsets", 0), TopicPartition("offsets", 1)

    def stored() -> dict[TopicPartition, tuple[int, str]]:
        found = admin.list_group_offsets("stored")["stored"]
        return {place: (of.offset, of.metadata) for place, of in found.items()}

    equal(stored(), {}, "of nobody")
    both = {first: OffsetAndMetadata(5, "a word", -1), second: OffsetAndMetadata(6, "", -1)}
    equal(admin.alter_group_offsets("stored", both), {first: NoError, second: NoError}, "stored")
    equal(stored(), {first: (5, "a word"), second: (6, "")}, "all")
    one = admin.list_group_offsets({"stored": [second]})["stored"]
    equal([(place, of.offset) for place, of in one.items()], [(second, 6)], "one")
    equal(admin.delete_group_offsets("stored", [second]), {second: NoError}, "deleted")
    equal(stored(), {first: (5, "a word")}, "after the deletion")
    for spec, expected in [(OffsetSpec.EARLIEST, 0), (OffsetSpec.LATEST, 10), (7, 7), (99, 10)]:
        admin.reset_group_offsets("stored", {first: spec})
        equal(stored()[first][0], expected, f"reset to {spec}")
    settings = {"group_id": "stored", "session_timeout_ms": 6000, "enable_auto_commit": False}
    consumer = KafkaConsumer("offsets", bootstrap_servers=setting.bootstrap, **settings)
    eventually("a share", lambda: consumer.poll(100) == {} and len(consumer.assignment()) == 2)
    refused = admin.alter_group_offsets("stored", {first: OffsetAndMetadata(1, "", -1)})
    equal(refused, {first: UnknownMemberIdError}, "with members")
    refused = admin.delete_group_offsets("stored", [first])[first]
    equal(refused.errno, 86, "deleted while it is subscribed to")
    consumer.close()
    admin.close()


def records(setting: Setting) -> None:
    """Deleted up to an offset; offsets by kind and by time."""
    admin = admin_of(setting)
    admin.create_topics(["records"])
    producer = KafkaProducer(bootstrap_servers=setting.bootstrap)
    for number in range(50):
        producer.send("records", b"x", timestamp_ms=FIRST_TIME + 10 * number)
    producer.flush(10)
    place = TopicPartition("records", 0)

    def offset(spec: Any) -> tuple[int, int]:
        told = admin.list_partition_offsets({place: spec})[place]
        return (told.offset, told.timestamp)

    equal(offset(OffsetSpec.EARLIEST), (0, -1), "earliest")
    equal(offset(OffsetSpec.LATEST), (50, -1), "latest")
    equal(offset(FIRST_TIME + 121), (13, FIRST_TIME + 130), "by time")
    equal(offset(OffsetSpec.MAX_TIMESTAMP), (49, FIRST_TIME + 490), "the latest time")
    equal(admin.delete_records({place: 20})[place]["low_watermark"], 20, "deleted")
    equal(offset(OffsetSpec.EARLIEST), (20, -1), "earliest after it")
    try:
        admin.delete_records({place: 51})
        check(False, "deleted above the end")
    except BrokerResponseError as error:
        check("OffsetOutOfRangeError" in repr(error), error)
    admin.close()


def the_cluster(setting: Setting) -> None:
    """Brokers, controller, log directories, elections and reassignments, as far as one broker has any."""
    admin = admin_of(setting)
    admin.create_topics({"elect": {"num_partitions": 2}})
    cluster = admin.describe_cluster()
    equal([f"{of['host']}:{of['port']}" for of in cluster["brokers"]], [setting.bootstrap], "brokers")
    equal((cluster["controller_id"], bool(cluster["cluster_id"])), (1, True), "controller")
    dirs = admin.describe_log_dirs({"elect": [0, 1]})
    equal([(of["broker"], len(of["log_dirs"])) for of in dirs], [(1, 1)], "directories")
    held = dirs[0]["log_dirs"][0]
    equal([of["name"] for of in held["topics"]], ["elect"], "topics")
    check(held["total_bytes"] > held["usable_bytes"] > 0, held)

    def elect(partition: int) -> int:
        answer = admin.elect_leaders(0, {"elect": [partition]}, raise_errors=False)
        return int(answer.replica_election_results[0].partition_result[0].error_code)

    equal((elect(0), elect(7)), (ElectionNotNeededError.errno, UnknownTopicOrPartitionError.errno), "elected")
    place = TopicPartition("elect", 0)
    equal(admin.list_partition_reassignments(), {}, "none under way")
    equal(admin.alter_partition_reassignments({place: [1]}), {place: None}, "to where it is")
    moved = admin.alter_partition_reassignments({place: [9]})
    equal(moved, {place: InvalidReplicationAssignmentError}, "to a broker that is none")
    equal(admin.alter_partition_reassignments({place: None}), {place: NoReassignmentInProgressError}, "given up")
    admin.close()


def moves(setting: Setting) -> None:
    """In a cluster of three: replicas move, leaders are elected, and both can be seen."""
    admin = KafkaAdminClient(bootstrap_servers=setting.bootstrap.split(","))
    admin.create_topics({"moved": {"assignments": {0: [1, 2]}}})
    place = TopicPartition("moved", 0)

    def now() -> dict[str, Any]:
        partition: dict[str, Any] = admin.describe_topics(["moved"])[0]["partitions"][0]
        return partition

    def moved_to(*replicas: int) -> bool:
        done = admin.list_partition_reassignments([place]) == {} and now()["replica_nodes"] == list(replicas)
        return done and set(now()["isr_nodes"]) == set(replicas)

    def move(*replicas: int) -> bool:
        try:
            equal(admin.alter_partition_reassignments({place: replicas}), {place: None}, "asked")
        except BrokerResponseError as error:
            check(error.retriable, error)
            return False
        return True

    eventually("a leader", lambda: now()["leader_id"] == 1)
    eventually("a controller", lambda: move(2, 3))
    eventually("a partition that moves", lambda: moved_to(2, 3), limit_s=20)
    equal(now()["leader_id"], 2, "its leader")
    eventually("a controller", lambda: move(3, 2))
    eventually("another order", lambda: moved_to(3, 2), limit_s=20)
    answer = admin.elect_leaders(0, {"moved": [0]}, raise_errors=False)
    code = answer.replica_election_results[0].partition_result[0].error_code
    check(code in (0, ElectionNotNeededError.errno), code)
    eventually("the first replica leads", lambda: now()["leader_id"] == 3)
    dirs = admin.describe_log_dirs({"moved": [0]})
    holders = sorted(of["broker"] for of in dirs if any(held["topics"] for held in of["log_dirs"]))
    equal(holders, [2, 3], "who has files of it")
    admin.close()


CHECKS = [topics, configs, groups, offsets_of_groups, records, the_cluster, moves]

if __name__ == "__main__":
    main(CHECKS)
