"""Revisions of policy and partners, on a real topic."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.town import Town
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured
from todoke.schemas.toml import shipped
from todoke.streams import build, revisions
from todoke.streams.settings import Settings


def with_policy(town: Town, text: str, folder: Path) -> Settings:
    path = folder / "policy.toml"
    path.write_text(text)
    return replace(town.settings, policy=str(path))


async def publish(settings: Settings, *, dry_run: bool = False) -> list[str]:
    return await asyncio.to_thread(revisions.publish, settings, Codec(), dry_run=dry_run)


async def require(town: Town, settings: Settings) -> None:
    made = replace(town.made, settings=settings, tools=replace(town.made.tools, rules=build.rules(settings)))
    await asyncio.to_thread(revisions.require, made)


async def test_a_number_is_published_once_and_never_goes_back(town: Town, tmp_path: Path) -> None:
    text = shipped("policy.toml")
    second = text.replace("revision = 1", "revision = 2", 1)
    await require(town, town.settings)  # nothing was published, so nothing is compared

    assert await publish(town.settings, dry_run=True) == [
        "policy 1: the first to be published",
        "partners 1: the first to be published",
    ]
    assert len(await publish(town.settings)) == 2
    assert await publish(town.settings) == []
    await require(town, town.settings)

    newer = with_policy(town, second, tmp_path)
    with pytest.raises(Misconfigured, match=r"policy.toml: revision 2 is not published: run `todoke registry publish`"):
        await require(town, newer)
    await publish(newer)
    await require(town, newer)
    with pytest.raises(
        Misconfigured, match=r"policy.toml: revision 1, but 2 is in force: deploy the policy of revision 2"
    ):
        await require(town, town.settings)
    with pytest.raises(Misconfigured, match="is in force"):
        await publish(town.settings)
    other = with_policy(town, second + "\n# another text\n", tmp_path)
    with pytest.raises(Misconfigured, match="revision 2 was published with another text: raise `revision`"):
        await require(town, other)


async def test_a_publication_names_what_it_changes(town: Town, tmp_path: Path) -> None:
    await publish(town.settings)
    text = (
        shipped("partners.toml")
        .replace("revision = 1", "revision = 2", 1)
        .replace("assumed_to_hold = false", "assumed_to_hold = true")
    )
    start, end = text.index('[[partner]]\nname = "aozora-analytics"'), text.index('[[partner]]\nname = "hoshi-dmp"')
    path = tmp_path / "partners.toml"
    path.write_text(text[:start] + text[end:])

    assert await publish(replace(town.settings, partners=str(path)), dry_run=True) == [
        "partners 2: partner hoshi-dmp: changed",
        "partners 2: partner aozora-analytics: removed",
    ]
