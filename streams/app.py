"""The worker: a Faust app whose services run the consumers that may lose nothing.

Faust gives the app, the supervision and the life of the worker. Events, receipts and state are read by `Runner`s,
through librdkafka, and never pass a Faust channel: see docs/decisions. The one agent reads `registry`, where losing a
message costs nothing: revisions take effect when processes start.
"""

import logging
import os
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust
from faust.types import StreamT
from mode import Service

from .build import Parts
from .health import FATAL, Health, stuck
from .runner import Runner

log = logging.getLogger(__name__)


class RunnerService(Service):
    """Runs one consumer as a service of the app. When its thread ends by itself, so does the process, at once.

    Ending without the app's own shutdown is deliberate: a clean end would say that all is well.
    """

    def __init__(self, runner: Runner, **options: Any) -> None:
        """`runner` is not started yet."""
        self.runner = runner
        super().__init__(**options)

    async def on_start(self) -> None:
        """Start the thread."""
        self.runner.start()

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(0.5)
            if not self.runner.alive and not self.should_stop:
                log.critical("%s ended by itself; the process ends", self.runner.name)
                os._exit(FATAL)

    async def on_stop(self) -> None:
        """Finish the batch in hand, commit, leave the group."""
        await self.loop.run_in_executor(None, self.runner.stop)


class HealthService(Service):
    """Serves probes and metrics for as long as the app runs."""

    def __init__(self, made: Parts, runners: Sequence[Runner], **options: Any) -> None:
        """The runners are those of the worker."""
        self.made = made
        self.runners = runners
        self.health = Health(made.metrics, self._live, self._ready)
        super().__init__(**options)

    async def on_start(self) -> None:
        """Listen."""
        await self.health.start(self.made.settings.host, self.made.settings.port)

    async def on_stop(self) -> None:
        """Stop listening."""
        await self.health.stop()

    def _live(self) -> str:
        return next(filter(None, (stuck(each.name, each.progress_at) for each in self.runners)), "")

    def _ready(self) -> str:
        for each in self.runners:
            if each.waiting:
                return f"{each.name} waits: {each.waiting}"
        if not any(each.assigned for each in self.runners):
            return "no partition is assigned yet"
        return ""


def make(made: Parts, runners: Sequence[Runner]) -> faust.App:
    """The Faust app of a worker, not started."""
    settings = made.settings
    app = faust.App(
        # a group of its own for each process: every worker hears of every revision, and none waits for one that died
        f"{settings.namespace}todoke.registry.{secrets.token_hex(4)}",
        broker=[f"kafka://{address}" for address in settings.kafka.bootstrap.split(",")],
        broker_credentials=credentials(dict(settings.kafka.client)),
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / "todoke-faust",  # Faust wants one; there are no tables to fill it
        consumer_auto_offset_reset="latest",
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
    )
    for runner in runners:
        app.service(_bound(RunnerService, runner))
    app.service(_bound(HealthService, made, runners))
    topic = app.topic(made.topic("registry"), value_type=bytes, value_serializer="raw", key_type=bytes)

    async def revisions(stream: StreamT[bytes]) -> None:
        async for _ in stream:
            log.info("a revision of the registry was published; it takes effect when this process starts again")

    app.agent(topic, name=f"{settings.namespace}todoke.revisions")(revisions)
    return app


def credentials(client: dict[str, Any]) -> Any:
    """Faust's credentials from librdkafka's settings, so that there is one place for both; None without any."""
    protocol = str(client.get("security.protocol", "plaintext")).lower()
    context = None
    if protocol.endswith("ssl"):
        context = ssl.create_default_context(cafile=client.get("ssl.ca.location"), cadata=client.get("ssl.ca.pem"))
        if "ssl.certificate.location" in client:
            context.load_cert_chain(client["ssl.certificate.location"], client.get("ssl.key.location"))
    if protocol.startswith("sasl"):
        mechanism = client.get("sasl.mechanisms", client.get("sasl.mechanism", "PLAIN"))
        name, password = client.get("sasl.username"), client.get("sasl.password")
        return faust.SASLCredentials(username=name, password=password, ssl_context=context, mechanism=mechanism)
    return faust.SSLCredentials(context) if context else None


def _bound(kind: type[Service], *arguments: Any) -> type[Service]:
    """A service class that makes itself with `arguments`: Faust starts classes, not instances."""

    class Bound(kind):  # type: ignore[valid-type, misc]  # a class made from a class given
        def __init__(self, **options: Any) -> None:
            super().__init__(*arguments, **options)

    Bound.__name__ = kind.__name__
    return Bound
