"""Fixtures for all tests: real servers once a session, an installation of its own for each test that wants one."""

import os
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest

from todoke.streams.embedded.stack import Addresses

from .stack import provide
from .town import Town

# The same examples at every run, so that a commit passes or fails for itself; `search` looks for new ones.
hypothesis.settings.register_profile("settled", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("TODOKE_HYPOTHESIS", "settled"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what is `long` to `make long`."""
    if not os.environ.get("TODOKE_LONG"):
        for each in items:
            if each.get_closest_marker("long"):
                each.add_marker(pytest.mark.skip(reason="`make long` runs it"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """Real Kafka and Valkey."""
    with provide(tmp_path_factory.mktemp("stack")) as addresses:
        yield addresses


@pytest.fixture
async def town(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A whole installation under a namespace of its own, with a worker, a dispatcher and emulators."""
    async with Town(stack, tmp_path_factory.mktemp("town")) as opened:
        yield opened
