"""(c) A bare confluent-kafka loop: transactions, the records in a dict, a transaction for each batch.

The dict is read from its own `consent-state` at the start; there is no other state, and nobody else may write.
"""

import os
import signal
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from bench.load import TOPIC
from bench.rules import Kernel, Seen
from todoke.schemas.record import SubjectRecord

NAMESPACE = "bare."
STATE = f"{NAMESPACE}consent-state"
BATCH = 1000


def restore(kernel: Kernel, servers: str, partitions: int) -> dict[str, SubjectRecord]:
    """The records, from their topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-bare-state", "enable.auto.commit": False})
    found = {}
    for partition in range(partitions):
        place = TopicPartition(STATE, partition, OFFSET_BEGINNING)
        _, high = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        while high and consumer.position([place])[0].offset < high:
            for each in consumer.consume(1000, 0.05):
                record = kernel.codec.decode(each.value() or b"", SubjectRecord)
                found[record.subject_ref] = record
    consumer.close()
    return found


def main() -> None:
    servers, stopping = os.environ["TODOKE_KAFKA"], []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    kernel = Kernel(NAMESPACE)
    records = restore(kernel, servers, int(os.environ["BENCH_PARTITIONS"]))
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench-bare",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "session.timeout.ms": 6000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "transactional.id": "bench-bare",
            "partitioner": "murmur2_random",
            "linger.ms": float(os.environ["BENCH_LINGER"]) * 1000,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([TOPIC])
    while not stopping:
        first = consumer.poll(0.2)
        if first is None:
            continue
        now = time.time_ns() // 1_000_000
        producer.begin_transaction()
        for each in [first, *consumer.consume(BATCH - 1, 0)]:
            event = kernel.decode(each.value() or b"")
            ref = kernel.ref(event)
            seen = Seen((each.partition() or 0, each.offset() or 0), each.timestamp()[1])
            records[ref], letters = kernel(event, seen, records.get(ref), now)
            producer.produce(STATE, kernel.codec.encode(records[ref]), ref)
            for letter in letters:
                producer.produce(letter.topic, letter.value, letter.key)
            producer.poll(0)
        offsets = [each for each in consumer.position(consumer.assignment()) if each.offset >= 0]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()
    consumer.close()


if __name__ == "__main__":
    main()
