"""An idempotent producer under faults with kafka-python; see load.py."""

from __future__ import annotations

from kafka import KafkaProducer
from kafka.producer.future import RecordMetadata
from load import Load


def main() -> None:
    """Sends until SIGTERM."""
    load = Load()
    producer = KafkaProducer(
        bootstrap_servers=load.bootstrap.split(","),
        enable_idempotence=True,
        linger_ms=5,
        reconnect_backoff_max_ms=500,
    )

    def send(number: int) -> None:
        def on_success(place: RecordMetadata) -> None:
            load.tell("sent", number=number, partition=place.partition, offset=place.offset)

        def on_failure(error: BaseException) -> None:
            load.tell("failed", number=number, text=repr(error))

        future = producer.send(load.topic, b"%d" % number, b"key-%d" % (number % 100))
        future.add_callback(on_success)
        future.add_errback(on_failure)

    for number in load.numbers():
        send(number)
    producer.flush(20)
    producer.close()
    load.tell("closed", left=0)


if __name__ == "__main__":
    main()
