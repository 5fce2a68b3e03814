"""What a producer and a reader do, whatever the library."""

import time


def value(producer, number, length):
    """As integration_tests::workload::value."""
    return f"{producer}:{number}:".ljust(length, ".").encode()


def produce(producer, options, lines, stop):
    """Sends at a steady rate, a few records to each partition in turn."""
    number = 0
    due = 0.0
    last = time.monotonic()
    while not stop.is_set():
        now = time.monotonic()
        # What could not be sent in time is not made up for in a burst.
        due = min(due + (now - last) * options.rate, options.rate / 10 + 1)
        last = now
        sends = []
        while due >= 1 and producer.under_way() + len(sends) < options.under_way_max:
            due -= 1
            sends.append(((number + len(sends)) // options.burst) % options.partitions)
        if sends:
            # Said before it is done, so that whatever is in the log was said to be sent.
            lines.say(event="sent", at=lines.now(), first=number, partitions=sends)
            for partition in sends:
                payload = value(options.producer, number, options.value_bytes)
                producer.send(number, partition, payload)
                number += 1
        producer.poll(0.004)
        lines.say_acknowledged()
    while producer.under_way():
        producer.poll(0.05)
        lines.say_acknowledged()
    lines.say_acknowledged()
    producer.close()


def read(reader, options, lines, stop):
    """Says what is delivered, and commits that every while where there is a group."""
    last_commit = time.monotonic()
    while not stop.is_set():
        reader.poll(0.05)
        lines.say_delivered()
        if options.group and time.monotonic() - last_commit >= options.commit_every_ms / 1000:
            last_commit = time.monotonic()
            reader.commit()
    reader.close()
    lines.say_delivered()
