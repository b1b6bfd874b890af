"""The console script `todoke`."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import click
import faust
import redis
from confluent_kafka import KafkaException
from rich.table import Table

from todoke.processors.balance import balance
from todoke.processors.keys import subject_ref
from todoke.schemas.errors import TodokeError
from todoke.sinks.emulators import Place
from todoke.sinks.emulators.command import run

from . import (
    app,
    build,
    deploy,
    dispatch,
    growth,
    keychecks,
    lookup,
    metrics,
    people,
    publishing,
    registry,
    revisions,
    settings,
    story,
    topics,
    tuning,
)
from .cluster import apply, connect
from .demo.cast import DemoError
from .demo.run import Show
from .demo.run import run as run_demo
from .disclose import disclosing
from .embedded.command import DIRECTORY, heeding, up
from .embedded.stack import StackError
from .keycommands import keys
from .ledgercommands import ledger as ledger_group
from .logcommands import log as log_group
from .partnercommands import partners_group
from .reading import Journal, Look, noted, reading
from .rebuild import view_group
from .recovery import lanes_group, replaying
from .snapshot import Topics
from .swapcommands import swaps_group
from .terminal import console, opened

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class Group(click.Group):
    """Turns our errors into a sentence and an exit code of 1; anything else is a bug and shows its trace."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except TodokeError as error:
            raise click.ClickException(str(error)) from None
        except (redis.ConnectionError, redis.TimeoutError):
            raise click.ClickException("redis.url: no answer: start the server, or correct the address") from None
        except KafkaException as error:
            raise click.ClickException(_why(error)) from None


def _why(error: KafkaException) -> str:
    """What is wrong with the cluster, or with our settings of it: a new client is told more than one that waits."""
    try:
        connect(settings.load().kafka)
    except TodokeError as found:
        return str(found)
    return f"kafka: {error.args[0].name()}: see `todoke topics apply`, and the rights of kafka.client's user"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Log what the libraries say, too.")
def main(*, verbose: bool) -> None:
    """Carry a person's stop to everyone who holds their data, until there is evidence."""
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO if verbose else logging.WARNING)
    logging.getLogger("todoke").setLevel(logging.INFO)


@main.command()
def worker() -> None:
    """Run a worker: intake, obligations, keeper."""
    loaded = settings.load()
    build.require_cluster(loaded)
    made = build.parts(loaded)
    keychecks.establish(made.tools, Topics(made.settings, made.tools.codec))
    revisions.require(made)
    runners = build.worker_runners(made)
    tuning.steady()
    faust.Worker(app.make(made, runners), loglevel="WARN", quiet=True).execute_from_commandline()


@main.command("dispatch")
@click.option("--partner", "partners", multiple=True, help="Serve this partner; may be repeated. Default: all.")
def dispatching(partners: tuple[str, ...]) -> None:
    """Run a dispatcher: a lane and a desk for each partner."""
    build.require_cluster(settings.load(), partners)
    with opened() as made:
        keychecks.establish(made.tools, Topics(made.settings, made.tools.codec))
        revisions.require(made)
        asyncio.run(dispatch.run(made, partners))


main.add_command(up)
main.add_command(replaying)
main.add_command(lanes_group)
main.add_command(view_group)
main.add_command(revisions.registry_group)
main.add_command(ledger_group)
main.add_command(disclosing)
main.add_command(log_group)


@main.command()
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), default=DIRECTORY / "demo")
@click.option("--seed", default=Show().seed, show_default=True, help="The same seed plays the same events.")
@click.option("--members", default=Show().members, show_default=True)
@click.option("--rate", default=Show().rate, show_default=True, help="Messages a second.")
@click.option("--keep", is_flag=True, help="Leave everything up at the end, and print where.")
def demo(directory: Path, seed: int, members: int, rate: int, *, keep: bool) -> None:
    """Play the whole way on real parts: events in, evidence out. Ends with 0 only when the balance is exact."""
    try:
        with heeding():
            exact = run_demo(directory.resolve(), Show(seed, members, rate), console, keep=keep)
    except (StackError, DemoError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; everything that was started has been ended") from None
    sys.exit(0 if exact else 1)


@main.command("publish")
@click.argument("file", type=click.File("rb"))
def publish(file: "click.utils.LazyFile") -> None:
    """Send events from JSON Lines, each {"topic": "consent-changes", "event": {…}}; - reads standard input."""
    loaded = settings.load()
    rules = build.rules(loaded)
    coder = build.codec(loaded, [partner.name for partner in rules.registry.partners])
    sent, problems = publishing.publish(loaded, coder, file)
    for problem in problems:
        click.echo(problem, err=True)
    click.echo(f"{sent} events published, {len(problems)} lines refused")
    if problems:
        sys.exit(1)


main.add_command(keys)


@main.group("topics")
def topics_group() -> None:
    """Topics of the cluster."""


@topics_group.command("apply")
@click.option("--fix", is_flag=True, help="Also bring settings that drifted back to what they should be.")
@click.option("--publish", "publishing_rules", is_flag=True, help="Then publish policy and partners: a deployment.")
def topics_apply(*, fix: bool, publishing_rules: bool) -> None:
    """Create what is missing, report what differs, register schemas; ends with 1 while anything still differs."""
    loaded = settings.load()
    partners = [partner.name for partner in build.rules(loaded).registry.partners]
    changes = apply(connect(loaded.kafka), topics.wanted(loaded, partners), fix=fix)
    for change in changes:
        click.echo(str(change))
    if loaded.registry.url:
        click.echo(deploy.register(loaded, partners))
    left = [change for change in changes if not change.done]
    click.echo(
        f"{len(changes) - len(left)} changed, {len(left)} differ" if changes else "all topics are as they should be"
    )
    if publishing_rules and not left:
        for line in revisions.publish(loaded, build.codec(loaded, partners)):
            click.echo(line)
    sys.exit(1 if left else 0)


topics_group.add_command(growth.topics_grow)


@topics_group.command("list")
def topics_list() -> None:
    """Every topic: what it carries, its key, cleanup and meaning."""
    table = Table("topic", "carries", "key", "cleanup", "meaning", box=None)
    for each in topics.TOPICS:
        table.add_row(each.name, each.carries.__name__, each.key, each.cleanup, each.doc)
    console.print(table)


@main.group("schemas")
def schemas_group() -> None:
    """Contracts of what travels."""


@schemas_group.command("lock")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default="schemas")
def schemas_lock(folder: Path) -> None:
    """Renew ids.lock.json and the history in FOLDER after a change of an .avsc file."""
    for line in registry.renew(folder):
        click.echo(line)


schemas_group.add_command(deploy.schemas_check)
schemas_group.add_command(deploy.schemas_register)


main.add_command(partners_group)
main.add_command(swaps_group)


@main.command()
@click.argument("subject")
@click.option("--ref", is_flag=True, help="SUBJECT is an internal reference already.")
@click.option("--events", is_flag=True, help="Read what became of each event from the topics, too.")
@reading
def subject(subject: str, *, ref: bool, events: bool, look: Look) -> None:
    """What is known of a person, what is owed to whom, and the evidence."""
    with opened() as made:
        name = subject if ref else subject_ref(made.tools.keyring, subject)
        found = story.of_subject(made.tools, name, Topics(made.settings, made.tools.codec) if events else None)
        noted(Journal.of(made.tools), story.refs(found.record, name), look)
        if found.record is None:
            raise click.ClickException("nothing is known of this subject")
        console.print(people.subject_page(found, name))


@main.command()
@click.argument("event_id")
@reading
def event(event_id: str, look: Look) -> None:
    """What became of an event."""
    with opened() as made:
        outcome, owed = story.of_event(made.tools, event_id)
        if outcome is None:
            raise click.ClickException("no outcome is noted for this event: it was not taken in, or not yet")
        noted(Journal.of(made.tools), [outcome.subject_ref], look)
        console.print(people.event_page(outcome, owed))


@main.command()
@click.argument("subject")
@click.argument("scope")
@reading
def check(subject: str, scope: str, look: Look) -> None:
    """Whether SCOPE, a purpose or channel, may be used for SUBJECT now. Ends with 0 for allow, 3 deny, 4 unknown."""
    with opened() as made:
        found = lookup.look_up(made.tools, subject, scope)
        noted(Journal.of(made.tools), [subject_ref(made.tools.keyring, subject)], look)
        age = "age unknown" if found.age_ms is None else f"known {found.age_ms} ms ago"
        click.echo(f"{found.answer}: {', '.join(found.reasons)} ({age})")
    sys.exit({"allow": 0, "deny": 3, "unknown": 4}[found.answer])


@main.group("obligations", invoke_without_command=True)
@click.option("--partner", default="", help="Only those of this partner.")
@click.option("--limit", default=20, show_default=True, help="How many for each partner, the oldest first.")
@click.pass_context
def obligations(context: click.Context, partner: str, limit: int) -> None:
    """What is still owed, the oldest first; and what people do about it."""
    if context.invoked_subcommand is None:
        with opened() as made:
            console.print(people.obligations_page(made.tools, partner, limit))


def _act(name: str, text: str) -> Callable[..., None]:
    @obligations.command(name, help=text)
    @click.argument("obligation_id")
    @click.option("--by", required=True, help="Who does it.")
    @click.option("--ground", required=True, help="Why; no identifiers of the person.")
    @click.option("--evidence", default="", help="Where the proof is kept.")
    def act(obligation_id: str, by: str, ground: str, evidence: str) -> None:
        with opened() as made:
            people.act(made.tools, obligation_id, people.ACTS[name], by=by, ground=ground, evidence=evidence)
            click.echo(f"{obligation_id}: {people.ACTS[name]} by {by}; noted in receipts and in the provision log")

    return act


_act("assign", "Give an obligation to somebody (--by).")
_act("close", "Close an obligation that was met outside Todoke.")
_act("waive", "Waive an obligation that no longer has to be met.")
_act("reopen", "Open an obligation again that the partner says has failed after all; it is told anew.")


@obligations.command("wake")
@click.option("--partner", required=True)
@click.option("--reason", default="", help="Only those blocked, or given up, for this reason.")
def obligations_wake(partner: str, reason: str) -> None:
    """Try again now what stands at a partner, given up or blocked: after the cause was mended."""
    with opened() as made:
        if made.tools.rules.registry.partner(partner) is None:
            raise click.ClickException(f"no partner is called {partner}: see `todoke partners list`")
        count = people.wake(made.tools, made.due, made.settings.kafka.lane_partitions, partner, reason)
        click.echo(f"{count} subjects woken for {partner}; a running `todoke dispatch` looks at them now")


@main.command("balance")
@click.option(
    "--textfile", type=click.Path(dir_okay=False, path_type=Path), help="Also write the sums as metrics here."
)
def balance_command(textfile: Path | None) -> None:
    """Compute laws 1 and 3 again from the topics. Ends with 0 only when nothing is missing or surplus."""
    loaded = settings.load()
    rules = build.rules(loaded)
    coder = build.codec(loaded, [partner.name for partner in rules.registry.partners])
    now = build.clock()
    found = balance(Topics(loaded, coder).snapshot(), rules, now)
    console.print(people.balance_page(found))
    if textfile:
        metrics.write_conservation(found, textfile)
    sys.exit(0 if found.exact else 1)


@main.command()
@click.option("--reason", default="", help="Only those with this reason.")
@click.option("--limit", default=20, show_default=True)
def letters(reason: str, limit: int) -> None:
    """Dead letters by reason, and the newest of them. What was refused stays sealed."""
    loaded = settings.load()
    coder = build.codec(loaded, [partner.name for partner in build.rules(loaded).registry.partners])
    found = Topics(loaded, coder).letters(lambda each: not reason or each.reason == reason)
    console.print(people.letters_page(found, limit))


@main.command()
@click.argument("name")
@click.option("--token", required=True, help="The secret that our side holds: a token, or a signing secret.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="0 takes a free one.")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="Where applied effects are kept.")
@click.option("--fsync", is_flag=True, help="Sync the journal before each answer.")
@click.option(
    "-o", "--option", "options", multiple=True, help="An option of the emulator as name=value; may be repeated."
)
def emulate(  # noqa: PLR0913  # one parameter an option: click's way
    name: str, token: str, host: str, port: int, journal: Path | None, *, fsync: bool, options: tuple[str, ...]
) -> None:
    """Run the emulator of a vendor; an unknown NAME is answered with all of them."""
    place = Place(host=host, port=port, journal=journal, fsync=fsync)
    pairs = dict(each.partition("=")[::2] for each in options)
    run(name, token, build.clock, place=place, options=pairs, ready=click.echo)
