"""An idempotent producer under faults with confluent-kafka; see load.py."""

from __future__ import annotations

from typing import Optional

from confluent_kafka import KafkaError, Message, Producer
from load import Load


def main() -> None:
    """Sends until SIGTERM."""
    load = Load()
    producer = Producer({
        "bootstrap.servers": load.bootstrap,
        "enable.idempotence": True,
        "linger.ms": 5,
        "partitioner": "murmur2_random",
    })

    def on_delivery(error: Optional[KafkaError], message: Message) -> None:
        number = int(message.value())
        if error is None:
            load.tell("sent", number=number, partition=message.partition(), offset=message.offset())
        else:
            load.tell("failed", number=number, text=str(error))

    for number in load.numbers():
        producer.produce(load.topic, b"%d" % number, b"key-%d" % (number % 100), on_delivery=on_delivery)
        producer.poll(0)
    left = producer.flush(20)
    load.tell("closed", left=left)


if __name__ == "__main__":
    main()
