"""A Kafka client that says all that it does, for the fault runs (integration-tests/faults --clients).

It is a producer, a member of a group or a reader of everything, by one library or another, and does what
the recorder's own clients do. Standard output has a line of JSON for each thing that happened, as
integration-tests/src/recorder/foreign/line.rs reads them; the library's log goes to standard error. It
ends in good order when its standard input ends.
"""

import argparse
import importlib
import sys
import threading
import traceback

import loops
from lines import Lines

# Longer than any send may take, and a group to be left.
END_WITHIN_S = 150


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["producer", "member", "tail"])
    parser.add_argument("--library", choices=["confluent-kafka", "kafka-python"], required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group")
    parser.add_argument("--producer", type=int, default=0)
    parser.add_argument("--rate", type=int, default=1)
    for number in ["partitions", "session-ms", "commit-every-ms", "burst", "value-bytes", "under-way-max"]:
        parser.add_argument("--" + number, type=int, required=True)
    # When the run began, by the clock of the machine's start.
    parser.add_argument("--began-ms", type=int, required=True)
    return parser.parse_args()


def end_with_input(stop, lines):
    """Waits in a thread for the end of the input, then for ours, but not for ever."""

    def wait():
        sys.stdin.read()
        stop.set()
        threading.Event().wait(END_WITHIN_S)
        lines.fatal(f"has not ended within {END_WITHIN_S} s")

    threading.Thread(target=wait, daemon=True).start()


def main():
    options = arguments()
    lines = Lines(options.began_ms)
    stop = threading.Event()
    end_with_input(stop, lines)
    try:
        work(options, lines, stop)
    except Exception as error:
        traceback.print_exc()
        lines.fatal(repr(error))
    lines.say(event="ended")


def work(options, lines, stop):
    library = importlib.import_module("by_" + options.library.replace("-", "_"))
    if options.role == "producer":
        loops.produce(library.Producer(options, lines), options, lines, stop)
    elif options.role == "member":
        loops.read(library.Reader(options, lines, options.group), options, lines, stop)
    else:
        loops.read(library.Reader(options, lines, None), options, lines, stop)


if __name__ == "__main__":
    main()
