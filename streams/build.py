"""The composition root: the one place where settings become parts."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient
from msgspec import Struct

from todoke.processors.reconcile import Recipient
from todoke.schemas import toml
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import INTAKE
from todoke.schemas.partners import Partner, Rules
from todoke.schemas.policy import Problem
from todoke.schemas.receipts import RESTRICTIVE, Evidence
from todoke.schemas.registry import RuleKind
from todoke.sinks import connectors, secrets
from todoke.sinks.base import Connector
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.sinks.swaps import Swapped

from . import acls, cluster, keychecks, providers, registry, topics
from .desk import Desk, Place
from .due import Due
from .epoch import Watch
from .freshness import Freshness, Marks, ends
from .index import Index
from .intake import Intake
from .keeper import Keeper
from .kept import KEPT
from .metrics import Metrics
from .outbox import Outbox, producer_config
from .patrol import Patrol
from .pulse import Pulse
from .quota import calls_since
from .registry import SchemaRegistry
from .runner import Hooks, Runner, consumer_config
from .settings import Settings
from .settling import Settling
from .snapshot import Topics
from .swaps import SwapDesk
from .tools import Tools
from .topics import COMPACT, carried
from .turns import Turns
from .view import View, connect

KEEPER_BATCH = 5000
"""In messages: the more copies of one key come together, the fewer are joined with the view one by one."""
KEEPER_BYTES = 65_536
"""The broker gathers so many for the keeper, or for a tenth of a second: nobody waits for what the view holds already, and
small batches would cost the worker as much as its own work."""


class Parts(Struct, frozen=True):
    """What a process of ours is made of, whatever its role."""

    settings: Settings
    tools: Tools
    due: Due
    outbox: Outbox
    metrics: Metrics

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.tools.topic(name)


def rules(settings: Settings) -> Rules:
    """The policy and the partners that the settings name, or those shipped. Raises `Misconfigured` with every problem."""
    named = texts(settings)
    policy = toml.policy(*named["policy"])
    checks = {name: _checking(maker.check) for name, maker in connectors.CONNECTORS.items()}
    return Rules(policy, toml.registry(*named["partners"], policy, checks))


def texts(settings: Settings) -> dict[RuleKind, tuple[str, str]]:
    """The text of the policy and of the partners, each with the name of where it stands."""
    paths: dict[RuleKind, str] = {"policy": settings.policy, "partners": settings.partners}
    return {
        kind: (read(path), path) if path else (toml.shipped(f"{kind}.toml"), f"{kind}.toml")
        for kind, path in paths.items()
    }


def _checking(check: Callable[[Partner], list[str]]) -> Callable[[Partner], list[Problem]]:
    """A connector's findings, each `key: what; fix`, as problems with a line."""

    def checked(partner: Partner) -> list[Problem]:
        problems = []
        for found in check(partner):
            key, _, rest = found.partition(": ")
            what, _, fix = rest.partition("; ")
            problems.append(Problem(tuple(key.split(".")), what, fix))
        return problems

    return checked


def codec(settings: Settings, partners: Sequence[str]) -> Codec:
    """The codec, with ids from the registry where one is configured, else from the lock."""
    return registry.codec(settings.registry, carried(settings.namespace, partners))


def clock() -> int:
    """Now, in ms: the one clock of the product, handed to whatever needs one."""
    return time.time_ns() // 1_000_000


def outbox(settings: Settings) -> Outbox:
    """A producer of its own."""
    return Outbox(producer_config(settings.kafka.bootstrap, dict(settings.kafka.client)))


def parts(settings: Settings, now: Callable[[], int] | None = None, *, checked: bool = True) -> Parts:
    """Everything that a role needs. Connects to the view; raises `Misconfigured` when something is wrong.

    Unless `checked`, whether the keyring is this installation's is not asked: for the commands about keys.
    """
    longest = int(COMPACT["min.compaction.lag.ms"]) // 2
    if settings.worker.stale_after_ms > longest:
        # a keeper further behind could miss what compaction removes, and nobody would know (correctness, 9)
        raise Misconfigured(f"worker.stale_after_ms: at most {longest}, half of min.compaction.lag.ms: lower it")
    found, ring = rules(settings), providers.load(settings.keys, settings.namespace)
    coder = codec(settings, [partner.name for partner in found.registry.partners])
    watch = Watch(settings.kafka.partitions * len(KEPT), settings.worker.stale_after_ms)
    view = View(connect(settings.redis.url), coder, settings.namespace, watch, now or clock)
    if checked:
        keychecks.compare(ring, view)
    sending = outbox(settings)
    metrics = Metrics()
    tools = Tools(
        view=view,
        index=Index(view, settings.worker.keep_outcomes_ms),
        turns=Turns(view, settings.kafka.partitions),
        codec=coder,
        schemas=SchemaRegistry(settings.registry) if settings.registry.url else None,
        outbox=sending,
        keyring=ring,
        rules=found,
        metrics=metrics,
        topic=lambda name: settings.namespace + name,
        now=now or clock,
        random=os.urandom,
        largest_event=settings.worker.largest_event,
        stale_after_ms=settings.worker.stale_after_ms,
        marks=Marks(view, settings.kafka.partitions * len(INTAKE)),
        permission_bound_ms=settings.worker.permission_bound_ms,
    )
    return Parts(settings, tools, Due(view), sending, metrics)


def require_cluster(settings: Settings, served: Sequence[str] | None = None) -> None:
    """See that the cluster answers, knows us, and has the topics that our role uses as we rely on them.

    `served` are a dispatcher's partners, none meaning all; None stands for a worker. Raises `Misconfigured`, `Retry`.
    """
    partners = [partner.name for partner in rules(settings).registry.partners]
    role: acls.Role = "worker" if served is None else "dispatcher"
    names = acls.topics_of(role, settings.namespace, served or partners)
    needed = [each for each in topics.wanted(settings, partners) if each.name in names]
    cluster.require(cluster.connect(settings.kafka, cluster.START_S), needed)


def worker_runners(made: Parts) -> list[Runner]:
    """The consumers of a worker: intake, obligations, keeper."""
    settings, tools = made.settings, made.tools
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap, **settings.kafka.client})
    freshness = Freshness(tools.marks, partial(ends, admin), tools.now)
    intake = Intake(tools, freshness)
    patrol = Patrol(tools, settings.worker.sweep_per_second)
    settling = Settling(tools, settings.worker.keep_ended_ms, made.due, settings.kafka.lane_partitions, patrol)
    return [
        keeper_runner(made),
        Runner(
            "intake",
            _consumer(made, "intake"),
            [made.topic(name) for name in INTAKE],
            intake,
            settings.worker.batch,
            Hooks(idle=freshness.idle, moved=freshness.moved, ends=freshness.ends),
        ),
        Runner(
            "settling",
            _consumer(made, "settling"),
            [made.topic("receipts")],
            settling,
            settings.worker.batch,
            Hooks(settling.idle, patrol.moved),
        ),
    ]


def keeper_runner(made: Parts) -> Runner:
    """The keeper's consumer."""
    keeper = Keeper(made.tools, made.due, made.settings.kafka.lane_partitions)
    pulse = Pulse(made.tools, keeper, made.settings.worker.pulse_ms)
    runner = Runner(
        "keeper",
        _consumer(made, "keeper") | {"fetch.min.bytes": KEEPER_BYTES},
        [made.topic(name) for name in KEPT],
        keeper,
        KEEPER_BATCH,
        Hooks(pulse.idle, keeper.moved, keeper.assign, keeper.ends),
    )
    keeper.rewind = runner.rewind
    return runner


def desks(made: Parts, names: Sequence[str], sender: Sender) -> list[Desk]:
    """A desk for each partner named, or for all. Raises `Misconfigured` for a name or a secret that is missing."""
    registry = made.tools.rules.registry
    unknown = set(names) - {partner.name for partner in registry.partners}
    if unknown:
        known = ", ".join(partner.name for partner in registry.partners)
        raise Misconfigured(f"--partner {', '.join(sorted(unknown))}: no such partner: use one of {known}")
    found = []
    past = calls_since(Topics(made.settings, made.tools.codec), made.tools.codec)
    for partner in registry.partners:
        if not names or partner.name in names:
            resolved, revealed = secrets.resolve(partner, os.environ)
            connector = connectors.build(resolved, revealed)
            exchange = Exchange(connector, sender, partner.limits.timeout_ms / 1000)
            place = Place(recipient(partner, connector), exchange, past, made.settings.kafka.lane_partitions)
            kind = SwapDesk if isinstance(connector, Swapped) else Desk
            found.append(kind(place, made.tools, made.due))
    return found


def recipient(partner: Partner, connector: Connector) -> Recipient:
    """A partner as decisions see it: one whose interface gives no evidence at all is told by people.

    A restriction that the entry leaves out is not asked of it, whatever its interface could do.
    """
    effects = {
        verb: effect
        for verb, effect in connector.effects.items()
        if verb not in RESTRICTIVE or verb in partner.deadline_hours
    }
    return Recipient(partner, effects, by_hand=connector.reaches == Evidence.none)


def hosts(made: Parts, names: Sequence[str]) -> frozenset[str]:
    """The hosts to which the partners named, or all, may be sent."""
    chosen = [each for each in made.tools.rules.registry.partners if not names or each.name in names]
    return connectors.hosts(secrets.resolve(partner, os.environ)[0] for partner in chosen)


def lane_runner(made: Parts, partner: str, work: Callable[..., None], moved: Callable[..., None]) -> Runner:
    """The consumer of one partner's lane, in a group of its own, so that lag is told apart."""
    topic = made.topic(f"directives.{partner}")
    return Runner(f"lane {partner}", _consumer(made, f"dispatch.{partner}"), [topic], work, hooks=Hooks(moved=moved))


def _consumer(made: Parts, group: str) -> dict[str, object]:
    settings = made.settings
    return consumer_config(
        settings.kafka.bootstrap,
        f"{settings.namespace}todoke.{group}",
        settings.worker.session_timeout_ms,
        dict(settings.kafka.client),
    )


def read(path: str) -> str:
    """The text of a file that a setting names. Raises `Misconfigured`."""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}: name a file that can be read") from None
