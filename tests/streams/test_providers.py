"""Where keyrings come from, and how they are changed: nothing is lost on the way, and no error shows a key."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from msgspec.structs import replace

from tests.rules import keyring
from todoke.processors.keys import KEY_BYTES, RINGS, Keyring, Ring, named
from todoke.schemas.errors import Misconfigured
from todoke.streams import keyfile, kms, providers
from todoke.streams.cli import main

RING = keyring()
TEXT = keyfile.dump(RING)
KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
NAMES = st.from_regex(r"[a-z]{1,4}[0-9]{1,4}", fullmatch=True)
RINGS_OF = st.dictionaries(NAMES, KEYS, min_size=1, max_size=5).flatmap(
    lambda keys: st.builds(Ring, st.sampled_from(sorted(keys)), st.just(keys))
)
KEYRINGS = st.builds(Keyring, KEYS, RINGS_OF, RINGS_OF, RINGS_OF)


@given(KEYRINGS)
def test_a_keyring_is_read_as_it_was_written(ring: Keyring) -> None:
    assert keyfile.parse(keyfile.dump(ring)) == ring


@given(KEYRINGS, st.sampled_from(RINGS))
def test_a_generation_is_added_used_and_removed_and_nothing_else_is_touched(ring: Keyring, which: str) -> None:
    before = getattr(ring, which)
    added, name = keyfile.add(ring, which, lambda size: b"n" * size)
    used = keyfile.use(added, which, name)
    after: Ring = getattr(used, which)

    assert getattr(added, which).current == before.current
    assert (after.current, after.keys) == (name, {**before.keys, name: b"n" * KEY_BYTES})
    assert keyfile.remove(added, which, name) == ring
    with pytest.raises(Misconfigured, match="is the current one"):
        keyfile.remove(used, which, name)
    with pytest.raises(Misconfigured, match="is older than the current one"):
        keyfile.use(used, which, before.current)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "keys: alias is missing"),
        (TEXT.replace("reference", "preference"), "keys: reference is missing"),
        (TEXT.replace('current = "l1"\n', ""), "keys: current is missing"),
        (TEXT.replace('"w1"', '"w7"'), r"keys: wrapping\.current: no wrapping key"),
        (TEXT.replace('reference = "', 'reference = "!'), "keys: expected TOML of base64 keys"),
        (TEXT.replace("[log]", "[log"), "keys: expected TOML of base64 keys"),
        ('reference = 1\nalias = "x"\nlog = 2', "keys: expected TOML of base64 keys"),
    ],
)
def test_what_is_no_keyring_is_refused_with_the_fix_and_without_a_key(text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as raised:
        keyfile.parse(text)

    assert_no_key(str(raised.value))


def test_files_and_variables_give_the_same_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys.toml").write_text(TEXT)
    monkeypatch.setenv("A_KEYRING", TEXT)

    assert providers.load(f"file:{tmp_path / 'keys.toml'}") == providers.load("env:A_KEYRING") == RING


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("file:/no/such/file", "keys: /no/such/file: No such file or directory: make a file with `todoke keys new"),
        ("env:NO_SUCH_VARIABLE", "keys: the variable NO_SUCH_VARIABLE is not set: set it"),
        ("vault:keys", "keys: expected file:PATH, env:NAME or aws-kms:PATH"),
        ("file:", "keys: expected file:PATH"),
        ("", "keys: expected file:PATH"),
        ("aws-kms:/no/such/file", "keys: /no/such/file: No such file or directory: make it with `todoke keys seal`"),
    ],
)
def test_a_place_without_a_keyring_is_named_with_the_fix(reference: str, said: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        providers.load(reference)

    assert str(raised.value).startswith(said)


def test_the_commands_make_and_change_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    path, run = tmp_path / "keys.toml", CliRunner().invoke
    said = [
        run(main, ["keys", "new", str(path)]),
        run(main, ["keys", "add", "wrapping", str(path)]),
        run(main, ["keys", "use", "wrapping", "w2", str(path)]),
        run(main, ["keys", "remove", "wrapping", "w1", str(path)]),
    ]
    found = keyfile.read(path)
    again = run(main, ["keys", "new", str(path)])

    assert [each.exit_code for each in said] == [0, 0, 0, 0]
    assert (found.wrapping.current, list(found.wrapping.keys)) == ("w2", ["w2"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (again.exit_code, keyfile.read(path)) == (1, found)
    assert [each.name for each in tmp_path.iterdir()] == ["keys.toml"]
    shown = "".join(each.output for each in (*said, again))
    assert not [
        line
        for line in path.read_text().splitlines()
        if '= "' in line and line.split('"')[1][:12] in shown[12:] and len(line.split('"')[1]) > 12
    ]


Sealing = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An emulator of KMS, moto's, over HTTP: it speaks the protocol, and stands for no cloud."""
    made = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    made.start()
    host, port = made.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        made.stop()


@pytest.fixture
def kms_key(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server)
    monkeypatch.setenv("AWS_REGION", "ap-northeast-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-northeast-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return str(boto3.client("kms").create_key()["KeyMetadata"]["KeyId"])


def test_a_keyring_sealed_by_kms_opens_for_its_namespace_alone(tmp_path: Path, kms_key: str) -> None:
    blob = tmp_path / "keys.kms"
    blob.write_text(kms.sealed(RING, kms_key, "shop."))

    assert providers.load(f"aws-kms:{blob}", "shop.") == RING
    assert_no_key(blob.read_text())
    with pytest.raises(Misconfigured, match=r"aws-kms: decrypt: InvalidCiphertext.*another namespace") as raised:
        providers.load(f"aws-kms:{blob}", "other.")
    assert_no_key(str(raised.value))


def test_the_command_seals_what_the_setting_opens(tmp_path: Path, kms_key: str) -> None:
    plain, blob = tmp_path / "keys.toml", tmp_path / "keys.kms"
    keyfile.create(plain)
    said = CliRunner().invoke(main, ["keys", "seal", str(plain), str(blob), "--kms-key", kms_key])

    assert said.exit_code == 0
    assert providers.load(f"aws-kms:{blob}") == keyfile.read(plain)


def test_a_changed_blob_and_an_unknown_key_are_told_apart(tmp_path: Path, kms_key: str) -> None:
    blob, changed, other = tmp_path / "keys.kms", tmp_path / "changed.kms", tmp_path / "text"
    blob.write_text(kms.sealed(RING, kms_key, ""))
    text = blob.read_text()
    changed.write_text(text[:-8] + ("AAAA" if text[-8:-4] != "AAAA" else "BBBB") + text[-4:])
    other.write_text("what is this?")

    with pytest.raises(Misconfigured, match=r"expected base64: make it with `todoke keys seal`"):
        providers.load(f"aws-kms:{other}")
    with pytest.raises(Misconfigured, match="keys: aws-kms: decrypt: "):
        providers.load(f"aws-kms:{changed}")
    with pytest.raises(Misconfigured, match="keys: aws-kms: encrypt: NotFoundException"):
        kms.sealed(RING, "00000000-0000-0000-0000-000000000000", "")


def test_a_kms_that_does_not_answer_is_named(tmp_path: Path, kms_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / "keys.kms"
    blob.write_text(kms.sealed(RING, kms_key, ""))
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(Misconfigured, match="decrypt: EndpointConnectionError: let this process reach KMS"):
        providers.load(f"aws-kms:{blob}")


def test_a_keyring_that_kms_would_not_take_is_refused_before_it_is_asked() -> None:
    many = Ring("w1", {f"w{number}": b"w" * KEY_BYTES for number in range(1, 100)})

    with pytest.raises(Misconfigured, match="KMS takes 4096: remove retired generations"):
        kms.sealed(replace(RING, wrapping=many), "any", "")


def assert_no_key(text: str) -> None:
    texts = [keyfile._text(key) for key in named(RING).values()]
    assert not [each for each in texts if each in text or each[:16] in text]
