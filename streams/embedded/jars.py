"""Kafka's jars: fetched once through `jgo`, which knows where from, into the user's cache.

`jars.txt` says which, how long and with which SHA-256, so that a start resolves nothing, a broken download is found, and
everybody runs the same bytes. `tests/streams/embedded/make_jars.py` writes it.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache as once
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from .parts import Missing, Progress
from .state import locked

LIST = "jars.txt"
UNFINISHED = "unfinished-"


class Jar(Struct, frozen=True):
    """One file of Maven Central: its coordinates, its length in bytes, its hash. A jar, unless it says otherwise."""

    group: str
    artifact: str
    version: str
    length: int
    sha256: str
    classifier: str = ""
    packaging: str = "jar"

    @property
    def path(self) -> Path:
        """Where it is, or will be, in the layout of a Maven repository."""
        kind = f"-{self.classifier}" if self.classifier else ""
        name = f"{self.artifact}-{self.version}{kind}.{self.packaging}"
        return cache() / "maven" / self.group.replace(".", "/") / self.artifact / self.version / name

    @property
    def here(self) -> bool:
        """Whether it was fetched: nothing comes to that path before its hash was compared."""
        return self.path.exists() and self.path.stat().st_size == self.length


def cache() -> Path:
    """Where downloads are kept: `TODOKE_CACHE`, else `todoke` in the user's cache directory."""
    named = os.environ.get("TODOKE_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "todoke").absolute()


@contextlib.contextmanager
def unfinished() -> Iterator[Path]:
    """A folder in the cache to make something in. Whoever holds the cache's lock finds those of killed starts, and removes them."""
    for each in cache().glob(f"{UNFINISHED}*"):
        shutil.rmtree(each, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=cache(), ignore_cleanup_errors=True) as made:
        yield Path(made)


def encode(jars: list[Jar]) -> str:
    """The list as text, a line each."""
    return "".join(f"{each.sha256} {each.length} {each.group}:{each.artifact}:{each.version}\n" for each in jars)


def decode(text: str) -> list[Jar]:
    """The list that `encode` wrote."""
    return [_decode(*line.split()) for line in text.splitlines()]


def _decode(sha256: str, length: str, name: str) -> Jar:
    group, artifact, version = name.split(":")
    return Jar(group, artifact, version, int(length), sha256)


@once
def listed() -> tuple[Jar, ...]:
    """All jars that the broker needs."""
    return tuple(decode((resources(__package__) / LIST).read_text()))


def paths() -> list[Path]:
    """The class path."""
    return [each.path for each in listed()]


def fetch(progress: Progress, what: str = "Kafka", files: Sequence[Jar] | None = None) -> None:
    """Bring what isn't in the cache yet, telling the bytes. Raises `Missing` when something can't be had."""
    files = listed() if files is None else files
    if all(each.here for each in files):
        return
    if find_spec("jgo") is None:
        raise Missing(f"no jgo to fetch {what} with: pip install 'todoke[embedded]'")
    cache().mkdir(parents=True, exist_ok=True)
    with locked(cache() / "lock", progress, f"waiting for another process that fetches {what}"):
        wanted = [each for each in files if not each.here]
        total = sum(each.length for each in wanted)
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            progress(f"fetching {what}", done, total)

        with unfinished() as folder:
            for each in wanted:
                _bring(each, folder, count)


def _bring(jar: Jar, folder: Path, count: Callable[[int], None]) -> None:
    """Into `folder` first: jgo writes to a file's last name from its first byte on, and trusts whatever it finds there."""
    from jgo.maven import MavenContext, PythonResolver

    @contextlib.contextmanager
    def counting(_name: str, _length: int) -> Iterator[Callable[[int], None]]:
        yield count

    context = MavenContext(PythonResolver(progress_callback=counting), repo_cache=folder, local_repos=[])
    try:
        fetched = (
            context.project(jar.group, jar.artifact)
            .at_version(jar.version)
            .artifact(jar.classifier, jar.packaging)
            .resolve()
        )
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's own are RuntimeErrors
        raise Missing(f"{jar.artifact} could not be fetched from Maven Central: {error}") from error
    if hashlib.sha256(fetched.read_bytes()).hexdigest() != jar.sha256:
        raise Missing(
            f"{jar.artifact} {jar.version}, as fetched, is not the one that is pinned: it was changed, or cut short on its way"
        )
    jar.path.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(jar.path)
