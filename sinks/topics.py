"""Carries `TopicRequest`: messages into a topic of a partner's cluster, each with the broker's own report.

A producer for each cluster and login, with threads of its own: a cluster that doesn't answer holds up nobody else.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Report

from todoke.schemas.errors import Misconfigured, Retry

from .base import SOMEBODY_MUST_ACT_S, Delivery, Message, TopicRequest, TopicResponse
from .secrets import Secret

SILENT = logging.Logger("topics", logging.CRITICAL + 1)  # noqa: LOG001  # in no tree, so nobody can turn it on
"""For librdkafka's own lines, which name hosts and users."""
THREADS = 8
POLL_S = 0.05
ACT = {
    KafkaError._AUTHENTICATION: "auth",
    KafkaError.SASL_AUTHENTICATION_FAILED: "auth",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "denied",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "denied",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "unknown-topic",
    KafkaError._UNKNOWN_TOPIC: "unknown-topic",
    KafkaError._SSL: "tls",
}
"""What lies in the entry or at the cluster: every call fails until somebody acts."""

Guard = Callable[[], None]


class Topics:
    """The producers of one process."""

    def __init__(self) -> None:
        self._lines: dict[tuple[object, ...], _Line] = {}

    async def carry(self, request: TopicRequest, timeout_s: float, guard: Guard | None) -> TopicResponse:
        """Produce, and wait for every report: no longer than `timeout_s`, after which nothing is on its way any more.

        Half of it at most goes into finding the topic; then the `guard` is asked, and what it raises is raised here.
        Raises `Retry`, `Misconfigured`.
        """
        key = (request.servers, timeout_s, *sorted(request.client.items(), key=lambda each: each[0]))
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(request, timeout_s / 2)
        work = partial(contextvars.copy_context().run, line.send, request, timeout_s / 2, guard)
        try:
            return await asyncio.get_running_loop().run_in_executor(line.threads, work)
        finally:
            if line.dead and self._lines.get(key) is line:  # it would refuse for ever, whatever is mended there
                del self._lines[key]
                line.threads.shutdown(wait=False)

    async def close(self) -> None:
        """Let go of every cluster. May be called twice."""
        lines, self._lines = list(self._lines.values()), {}
        for each in lines:
            await asyncio.to_thread(each.close)


class _Line:
    """One producer and its threads."""

    def __init__(self, request: TopicRequest, deliver_s: float) -> None:
        self.fault: KafkaError | None = None
        self.dead = False
        self.producer = _producer(request, deliver_s, self._heard)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="topics")

    def send(self, request: TopicRequest, find_s: float, guard: Guard | None) -> TopicResponse:
        self._find(request.topic, find_s)
        if self.dead:
            raise self._refused(KafkaError(KafkaError._FATAL))
        if guard:
            guard()
        found: dict[int, Delivery] = {}
        for index, each in enumerate(request.messages):
            self._produce(request.topic, each, partial(_note, found, index))
        deadline = time.monotonic() + find_s + 1
        while len(found) < len(request.messages) and time.monotonic() < deadline and not self.dead:
            self._poll(POLL_S)
        lost = Delivery(code="no-report")
        return TopicResponse(deliveries=tuple(found.get(index, lost) for index in range(len(request.messages))))

    def close(self) -> None:
        self.threads.shutdown()
        with suppress(KafkaException):  # of one that is dead already
            self.producer.close()

    def _find(self, topic: str, find_s: float) -> None:
        """See that a broker answers and has the topic: what is produced before that would wait and go out late."""
        self.fault = None
        try:
            known = self.producer.list_topics(topic, timeout=find_s).topics.get(topic)
        except KafkaException as error:
            self._poll(0)  # by which the client tells why
            raise self._refused(error.args[0]) from None
        self._poll(0)  # and whether it has given up itself
        if known is None or known.error is not None:
            self.fault = known.error if known else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
            raise self._refused(self.fault)

    def _refused(self, error: KafkaError) -> Retry:
        """Why nothing was said: what the client told by itself, or the `error` of a call."""
        reason = ACT.get(self.fault.code() if self.fault else error.code())
        if reason:
            return Retry(reason, SOMEBODY_MUST_ACT_S, perhaps=False)
        return Retry("not-connected", perhaps=False)

    def _poll(self, wait_s: float) -> None:
        try:
            self.producer.poll(wait_s)
        except KafkaException as error:
            self._heard(error.args[0])

    def _heard(self, error: KafkaError) -> None:
        """A client that can't log in says so here, and to whoever asks only that time ran out."""
        self.dead = self.dead or error.fatal()
        if error.code() in ACT:
            self.fault = error

    def _produce(self, topic: str, message: Message, report: Callable[[KafkaError | None, Report], None]) -> None:
        while True:
            try:
                self.producer.produce(topic, message.value, message.key, on_delivery=report)
            except BufferError:
                self._poll(POLL_S)
            except KafkaException as error:
                raise Retry(_code(error.args[0])) from None  # messages before this one may be on their way
            else:
                return


def refusal(code: str) -> bool:
    """Whether the `code` of a delivery lies in the entry or at the cluster, and the message surely isn't there."""
    return code in ACT.values()


def _producer(request: TopicRequest, deliver_s: float, heard: Callable[[KafkaError], None]) -> Producer:
    client = {key: each.reveal() if isinstance(each, Secret) else each for key, each in request.client.items()}
    config = {
        **client,
        "bootstrap.servers": ",".join(request.servers),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",  # Java's, so that a key lies where the partner's own producers put it
        "linger.ms": 1,
        "compression.type": "lz4",
        "delivery.timeout.ms": max(1000, round(deliver_s * 1000)),
        "error_cb": heard,
        "log_level": 0,
    }
    try:
        return Producer(config, logger=SILENT)
    except KafkaException as error:
        raise Misconfigured(
            f"a Kafka partner's settings: {_code(error.args[0])}: correct settings and secrets"
        ) from None


def _note(found: dict[int, Delivery], index: int, error: KafkaError | None, report: Report) -> None:
    """Called by whichever thread polls."""
    if error is not None:
        found[index] = Delivery(code=ACT.get(error.code(), _code(error)))
    else:
        found[index] = Delivery(partition=_number(report.partition()), offset=_number(report.offset()))


def _code(error: KafkaError) -> str:
    return error.name().strip("_").lower().replace("_", "-")


def _number(value: int | None) -> int:
    return -1 if value is None else value
