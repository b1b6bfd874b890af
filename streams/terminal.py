"""What every command of `todoke` writes to, and works with."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from . import build, settings

WIDTH = 120  # where no terminal says how wide it is
console = Console(width=None if sys.stdout.isatty() else WIDTH)


@contextmanager
def opened(*, checked: bool = True) -> Iterator[build.Parts]:
    """The parts of this process, closed at the end; `checked` as in `build.parts`."""
    made = build.parts(settings.load(), checked=checked)
    try:
        yield made
    finally:
        made.outbox.close()
        made.tools.view.client.close()
