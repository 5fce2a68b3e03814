"""What the members of a consumer group share: arguments, the end by SIGTERM, and events as lines of JSON.

    PROGRAM BOOTSTRAP GROUP TOPIC STRATEGY SESSION_TIMEOUT_MS [INSTANCE]

    {"event": "assigned", "partitions": [0, 1]}     what it was given (in addition, where that is incremental)
    {"event": "revoked", "partitions": [1]}         what was taken, after its offsets were committed
    {"event": "lost", "partitions": [0]}            what it can commit nothing of any more
    {"event": "read", "records": [[0, 17]]}         partition and offset of each record
    {"event": "error", "text": "…"}                 an error that the client told, which goes on all the same

Offsets are committed every COMMIT_EVERY_S, when partitions are revoked, and at the end.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from types import FrameType
from typing import Any, Iterable, Optional

COMMIT_EVERY_S = 0.3
HEARTBEAT_MS = 200


class Member:
    """Arguments, and what has been read."""

    def __init__(self) -> None:
        self.bootstrap, self.group, self.topic, self.strategy = sys.argv[1:5]
        self.session_timeout_ms = int(sys.argv[5])
        self.instance: Optional[str] = sys.argv[6] if len(sys.argv) > 6 else None
        self.ends = False
        self.positions: dict[int, int] = {}
        self._committed_at = time.monotonic()
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, _number: int, _frame: Optional[FrameType]) -> None:
        self.ends = True

    def tell(self, event: str, **of: Any) -> None:
        """Prints an event."""
        sys.stdout.write(json.dumps({"event": event} | of) + "\n")
        sys.stdout.flush()

    def note(self, records: Iterable[tuple[int, int]]) -> None:
        """Notes and tells records that were read."""
        places = list(records)
        if places:
            self.tell("read", records=places)
            self.positions |= {partition: offset + 1 for partition, offset in places}

    def taken(self, partitions: Iterable[int]) -> dict[int, int]:
        """The positions of partitions that go to somebody else, to be committed; they are forgotten here."""
        return {number: self.positions.pop(number) for number in partitions if number in self.positions}

    def commit_is_due(self) -> bool:
        """Whether it is time for a commit again; if so, it is taken as done."""
        if not self.positions or time.monotonic() - self._committed_at < COMMIT_EVERY_S:
            return False
        self._committed_at = time.monotonic()
        return True
