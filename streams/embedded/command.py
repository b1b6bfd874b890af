"""`todoke up`: the embedded stack in the foreground, until it is told to stop."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .parts import Progress as Tell
from .stack import Plan, Stack, StackError, release

DIRECTORY = Path(os.environ.get("TODOKE_STATE") or ".todoke")
BEAT_S = 0.5


@contextlib.contextmanager
def telling(console: Console) -> Iterator[Tell]:
    """Shows a bar for what has an end, and a spinner for what has none."""
    words, sizes = TextColumn("{task.description}"), TextColumn("{task.fields[size]}")
    columns = SpinnerColumn(), words, BarColumn(), sizes, TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def tell(what: str, done: float, total: float) -> None:
            if not progress.tasks or what != progress.tasks[0].description:
                for task in progress.task_ids:  # a task that had a total keeps it
                    progress.remove_task(task)
                progress.add_task(what, total=None, size="")
            size = f"{decimal(int(done))} of {decimal(int(total))}" if total else ""
            progress.update(progress.task_ids[0], completed=done, total=total or None, size=size)

        yield tell


@click.command()
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), default=DIRECTORY, show_default=True)
@click.option("--fresh", is_flag=True, help="Forget what an earlier stack in the directory has stored.")
@click.option("--kafka-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--valkey-port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
def up(directory: Path, kafka_port: int, valkey_port: int, *, fresh: bool) -> None:
    """Start real Kafka and Valkey here, and stop them with Ctrl-C; a second `up` finds the first."""
    console = Console(stderr=True)
    directory, stack = directory.resolve(), None
    with heeding():
        try:
            with telling(console) as tell:
                stack = Stack.start(directory, Plan(fresh, kafka_port, valkey_port), tell)
            _say(stack, console)
            _hold(stack)
        except StackError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            if stack is not None:
                stack.stop()
            release(directory)  # of a start whose stack an interrupt has lost


@contextlib.contextmanager
def heeding() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and the end of the terminal raise KeyboardInterrupt in the block, once.

    What is ignored already stays so: `nohup` and a shell's `&` mean it.
    """
    asked.clear()
    heard = [number for number in ASKING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


asked = Event()
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(*_: object) -> None:
    """A signal's handler that ends like Ctrl-C does, so that everything started is stopped.

    The first signal asks for that; the next ones must not break it off, so they are ignored. Where the exception is lost,
    as in a finalizer, `asked` still says it.
    """
    asked.set()
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(stack: Stack, console: Console) -> None:
    """The addresses, as lines for a shell on standard output; the rest is for people."""
    for name, value in stack.addresses.environ().items():
        click.echo(f"export {name}={value}")
    where = f"in {stack.directory}"
    found = f"found the stack that is up {where}; it stays with the process that started it"
    console.print(f"the stack is up {where}; Ctrl-C stops it" if stack.owner else found, soft_wrap=True)


def _hold(stack: Stack) -> None:
    """Return at once when the stack is another's; else never, and raise `StackError` when a part ends by itself."""
    while stack.owner:
        if asked.is_set():
            raise KeyboardInterrupt
        if trouble := stack.broken():
            raise StackError(trouble)
        time.sleep(BEAT_S)
