"""What the programs of this folder share.

A program is a list of checks, run in their order against one broker or cluster:

    PROGRAM BOOTSTRAP DIRECTORY [CHECK…]

A check fails by an exception. DIRECTORY is where programs and the tests that start them leave records for each
other: a file TOPIC.jsonl holds the records of a topic, each as `consumer --format json` prints it.
"""

from __future__ import annotations

import base64
import faulthandler
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Sequence, TypeVar

Bytes = Optional[bytes]
Headers = Sequence[tuple[str, Bytes]]
Check = Callable[["Setting"], None]
Value = TypeVar("Value")

# A check that hangs says where.
HANGS_AFTER_S = 100
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


class Setting:
    """Where the checks run."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.directory = directory

    def leave(self, topic: str, records: Iterable[dict[str, Any]]) -> None:
        """Leaves the records of a topic for the test that started the program."""
        lines = [json.dumps(record) + "\n" for record in records]
        (self.directory / f"{topic}.jsonl").write_text("".join(lines))

    def left(self, topic: str) -> list[dict[str, Any]]:
        """The records that were left of a topic."""
        lines = (self.directory / f"{topic}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def record(
    topic: str, partition: int, offset: int, timestamp: int, key: Bytes, value: Bytes, headers: Headers
) -> dict[str, Any]:
    """A record as `consumer --format json` prints it."""
    shown: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset, "timestamp": timestamp}
    shown |= _field("key", key) | _field("value", value)
    shown["headers"] = [{"key": name} | _field("value", text) for name, text in headers]
    return shown


def _field(name: str, value: Bytes) -> dict[str, Optional[str]]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name + "_base64": base64.b64encode(value).decode()}


def log_line(number: int) -> bytes:
    """A value that every codec makes smaller, and that differs from every other."""
    noise = number * 0x9E37_79B9_7F4A_7C15 % 2**64
    return f"INFO dfs.DataNode: block blk_{noise:x} of size {noise >> 40} received".encode()


def odd_records() -> list[tuple[Bytes, Bytes, list[tuple[str, Bytes]], int]]:
    """Key, value, headers and time of records that are easily changed on their way."""
    return [
        (b"key", b"value", [], 1_700_000_000_000),
        (None, b"no key", [], 1_700_000_000_001),
        (b"no value", None, [], 1_700_000_000_002),
        (None, None, [], 1_700_000_000_003),
        (b"", b"", [("", b"")], 1_700_000_000_004),
        (b"\xff\x00key", b"\x80\x81value", [("bytes", b"\xfe\xff")], 1_700_000_000_005),
        (b"headers", b"x", [("h", b"1"), ("i", b"2"), ("h", b"3"), ("h", b"1")], 1_700_000_000_006),
        (b"null header", b"x", [("null", None), ("empty", b""), ("null", b"not now")], 1_700_000_000_007),
        ("ключ".encode(), "значение".encode(), [("заголовок", "да".encode())], 1_700_000_000_008),
        (b"an earlier time", b"x", [], 1_600_000_000_000),
        (b"large", b"0123456789" * 20_000, [(f"h{n}", b"%d" % n) for n in range(300)], 1_700_000_000_010),
    ]


def check(holds: object, what: object) -> None:
    """Fails with `what` unless it holds."""
    if not holds:
        raise AssertionError(what)


def equal(seen: object, expected: object, what: object = "") -> None:
    """Fails unless both are equal."""
    if seen != expected:
        raise AssertionError(f"{what}: {_short(seen)} instead of {_short(expected)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 2_000 else f"{text[:1_500]} … {text[-400:]}"


def eventually(what: str, ask: Callable[[], Optional[Value]], limit_s: float = 15) -> Value:
    """Asks until the answer is neither None nor False."""
    deadline = time.monotonic() + limit_s
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        check(time.monotonic() < deadline, f"{limit_s} s were not enough for: {what}")
        time.sleep(0.02)


def main(checks: Sequence[Check]) -> None:
    """Runs the checks named on the command line, or all of them."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    bootstrap, directory, *names = sys.argv[1:]
    setting = Setting(bootstrap, Path(directory))
    unknown = set(names) - {of.__name__ for of in checks}
    check(not unknown, f"no such checks: {unknown}")
    for of in checks:
        if not names or of.__name__ in names:
            begun = time.monotonic()
            print(f"{of.__name__} …", flush=True)
            of(setting)
            print(f"{of.__name__} passed in {time.monotonic() - begun:.2f} s", flush=True)
