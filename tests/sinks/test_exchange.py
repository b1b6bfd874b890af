"""The exchange of one partner: what a token that can't be had means for who was to be told."""

import asyncio

import pytest

from tests.contracts.rows import item, partner, rows
from todoke.schemas.errors import Retry
from todoke.sinks.connectors import build
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority


async def test_a_token_that_was_asked_for_and_never_came_leaves_no_doubt_about_the_call() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        built = build(partner("criteo", base_url=address, token_url=address), rows()["criteo"].secrets)
        async with Sender([authority(address)]) as sender:
            with pytest.raises(Retry, match=r"^timeout$") as raised:
                await Exchange(built, sender, 0.3).call([item()], int)
        await left.wait()

    assert asked.is_set()
    assert raised.value.perhaps is False
