"""Secrets and settings by reference: read once, named when missing, never shown."""

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Account, Partner
from todoke.sinks.connectors.meta import Config
from todoke.sinks.secrets import Secret, is_reference, resolve
from todoke.sinks.settings import authority, problems, read, url_problems


def partner(settings: dict[str, Any] | None = None, **secrets: str) -> Partner:
    return Partner(
        name="acme",
        label="Acme",
        role="dmp",
        legal_basis="consent",
        identifiers=("email",),
        accounts=(Account(name="main", scopes=("ads",)),),
        connector="webhook",
        settings=settings or {},
        secrets=secrets,
        deadline_hours={},
    )


def test_a_secret_is_read_from_a_variable_or_a_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")

    _, secrets = resolve(partner(one="env:ONE", two=f"file:{tmp_path}/token"), {"ONE": "from-env"})

    assert {name: each.reveal() for name, each in secrets.items()} == {"one": "from-env", "two": "from-file"}


def test_settings_are_resolved_likewise_at_any_depth() -> None:
    settings = {"url": "env:URL", "audiences": {"main": "env:ID"}, "list": ["env:ID", 1], "file": "file:left/alone"}

    resolved, _ = resolve(partner(settings), {"URL": "https://x.example", "ID": "7"})

    assert resolved.settings == {
        "url": "https://x.example",
        "audiences": {"main": "7"},
        "list": ["7", 1],
        "file": "file:left/alone",
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (partner(token="env:NOWHERE"), "partner acme: secrets.token: the variable NOWHERE is missing or empty; set it"),
        (partner(token="env:EMPTY"), "partner acme: secrets.token: the variable EMPTY is missing or empty; set it"),
        (partner({"a": {"b": ["env:NOWHERE"]}}), "partner acme: settings.a.b[0]: the variable NOWHERE is missing"),
        (
            partner(token="file:/does/not/exist"),
            "partner acme: secrets.token: can't read /does/not/exist: FileNotFound",
        ),
        (partner(token="hunter2"), "partner acme: secrets.token: a secret stands here itself; give env:NAME"),
    ],
)
def test_what_is_missing_is_named_with_partner_key_and_fix(given: Partner, says: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        resolve(given, {"EMPTY": " "})

    assert str(raised.value).startswith(says)
    assert "hunter2" not in str(raised.value)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")

    with pytest.raises(Misconfigured, match="is empty; write the secret into it"):
        resolve(partner(token=f"file:{tmp_path}/token"), {})


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hunter2")

    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {vars(SimpleNamespace(a=secret))}"
    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    assert secret != "hunter2"
    assert len({secret, Secret("hunter2")}) == 1
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(secret)


def test_references() -> None:
    assert [each for each in ("env:A", "file:/a", "env:", "file:", "A", "") if is_reference(each)] == [
        "env:A",
        "file:/a",
    ]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://Partner.example/x", "partner.example:443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://[::1]:1/", "[::1]:1"),
        ("http://a:0/", "a:0"),
        ("people", ""),
        ("https://x:port/", ""),
    ],
)
def test_authority(url: str, wanted: str) -> None:
    assert authority(url) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://partner.example/x", ""),
        ("http://localhost:1/", ""),
        ("http://[::1]:1/", ""),
        ("env:URL", ""),
        ("http://partner.example/", "use https"),
        ("https://me:pass@partner.example/", "use secrets"),
        ("ftp://partner.example/", "not an http(s) address"),
        ("https://", "not an http(s) address"),
        ("https://[", "not an http(s) address"),
        ("https://a..b/", "not an http(s) address"),
        ("https://例え.jp/", "not an http(s) address"),
    ],
)
def test_addresses_are_judged(url: str, wanted: str) -> None:
    found = "".join(url_problems("url", url, insecure=False))

    assert wanted in found
    assert bool(wanted) == bool(found)
    assert "pass@" not in found


def test_http_to_another_machine_can_be_allowed_by_name() -> None:
    assert url_problems("url", "http://emulator:8080/", insecure=True) == []


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"audiences": {"main": "7"}}, []),
        ({}, ["settings.audiences: missing; set it"]),
        (
            {"audience": {}, "x": 1},
            ["settings.audience: unknown setting; did you mean audiences?", "settings.x: unknown"],
        ),
        ({"audiences": {"main": 7}}, ["settings: Expected `str`, got `int` - at `settings.audiences[...]`"]),
    ],
)
def test_settings_are_judged_by_name_and_type(settings: dict[str, Any], wanted: list[str]) -> None:
    found = problems(Config, settings)

    for says in wanted:
        assert any(each.startswith(says) for each in found)
    if not wanted:
        assert found == []
        assert read(Config, partner(settings)).audiences == {"main": "7"}
    else:
        with pytest.raises(Misconfigured, match=r"^partner acme: settings"):
            read(Config, partner(settings))
