"""The lines that a client says: one place that writes, one clock."""

import collections
import json
import os
import sys
import threading
import time


class Lines:
    def __init__(self, began_ms):
        self.began_ms = began_ms
        self.lock = threading.Lock()
        # Acknowledgements come one by one, maybe in a thread of the library, and are said together.
        self.acknowledged = collections.deque()
        # Partition, first offset and values of records that follow one another and were not said yet.
        self.run = None

    def now(self):
        """Milliseconds since the run began; every process reads the same clock."""
        return max(0, int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000) - self.began_ms)

    def say(self, **line):
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with self.lock:
            sys.stdout.write(text)
            sys.stdout.flush()

    def note(self, text):
        self.say(event="note", at=self.now(), text=str(text))

    def fatal(self, error):
        """Says that nothing more can be done, and ends."""
        self.say_acknowledged()
        self.say(event="fatal", at=self.now(), error=str(error))
        os._exit(1)

    def settled(self, number, partition, offset, error):
        """A send has ended; from any thread."""
        if error is None:
            self.acknowledged.append((number, partition, offset))
        else:
            self.say(event="failed", at=self.now(), number=number, error=str(error))

    def say_acknowledged(self):
        sends = []
        while self.acknowledged:
            sends.append(self.acknowledged.popleft())
        if sends:
            self.say(event="acknowledged", at=self.now(), sends=sends)

    def delivered(self, partition, offset, text):
        """A record was delivered. It is said with those after it, before anything else of its reader."""
        if self.run is None or partition != self.run[0] or offset != self.run[1] + len(self.run[2]):
            self.say_delivered()
            self.run = (partition, offset, [])
        producer, number, _ = text.split(b":", 2)
        self.run[2].append((int(producer), int(number)))

    def say_delivered(self):
        if self.run is not None:
            (partition, first, values), self.run = self.run, None
            self.say(event="delivered", at=self.now(), partition=partition, first=first, values=values)
