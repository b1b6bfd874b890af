"""Other people's tools for the log, built from their own modules with Go, once, into the cache."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from todoke.streams.embedded import jars

TESSERA = "github.com/transparency-dev/tessera"
TESSERA_VERSION = "v1.0.2"
"""Apache-2.0."""


def built(package: str, version: str) -> Path:
    """The program of a Go package. Skips where there is no Go."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go on the PATH to build it with")
    place = jars.cache() / "go" / f"{package.replace('/', '_')}@{version}"
    name = place / package.rsplit("/", 1)[1]
    if not name.exists():
        environ = {**os.environ, "GOBIN": str(place), "CGO_ENABLED": "0"}
        done = subprocess.run(
            [go, "install", "-trimpath", f"{package}@{version}"], env=environ, capture_output=True, check=False
        )
        if done.returncode:
            pytest.fail(f"{package}: it can't be built: {done.stderr.decode()[-400:]}")
    return name
