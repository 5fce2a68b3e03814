"""What producers under faults share: numbered records until SIGTERM, and their fate as lines of JSON.

    PROGRAM BOOTSTRAP TOPIC RECORDS_A_SECOND

    {"event": "sent", "number": 7, "partition": 0, "offset": 3}     acknowledged
    {"event": "failed", "number": 8, "text": "…"}                   given up by the client

The value of record n is n.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Iterator, Optional


class Load:
    """Arguments, the pace, and events."""

    def __init__(self) -> None:
        self.bootstrap, self.topic = sys.argv[1:3]
        self.rate = int(sys.argv[3])
        self.ends = threading.Event()
        self._lock = threading.Lock()
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, _number: int, _frame: Optional[FrameType]) -> None:
        self.ends.set()

    def numbers(self) -> Iterator[int]:
        """The numbers to send, each when it is time for it."""
        begun, number = time.monotonic(), 0
        while not self.ends.is_set():
            yield number
            number += 1
            early = begun + number / self.rate - time.monotonic()
            if early > 0:
                time.sleep(early)

    def tell(self, event: str, **of: Any) -> None:
        """Prints an event; clients call it in threads of their own."""
        with self._lock:
            sys.stdout.write(json.dumps({"event": event} | of) + "\n")
            sys.stdout.flush()
