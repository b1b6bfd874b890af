"""Writes the golden requests of every connector: `python -m tests.golden.connectors.make`, then read the difference."""

import json
from pathlib import Path

from msgspec.structs import replace

from tests.contracts.rows import AT, partner, rows
from todoke.sinks.base import HttpRequest
from todoke.sinks.connectors import CONNECTORS

HERE = Path(__file__).parent


def text(request: HttpRequest) -> str:
    """A request as readable JSON."""
    shown = {
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "body": request.body.decode(),
    }
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def golden(connector: str) -> dict[Path, str]:
    """Every golden file of one connector and what it must hold."""
    made, row = {}, rows()[connector]
    for case in row.cases:
        entry = partner(connector, **case.settings)
        named = {**entry.secrets, **{name: f"env:{name.upper()}" for name in case.secrets}}
        entry = replace(entry, identifiers=case.kinds or entry.identifiers, secrets=named)
        built = CONNECTORS[connector].build(entry, {**row.secrets, **case.secrets})
        made[HERE / connector / f"{case.name}.json"] = text(built.request(case.items, AT))
    return made


def main() -> None:
    """Write them all."""
    for connector in CONNECTORS:
        (HERE / connector).mkdir(exist_ok=True)
        for path, content in golden(connector).items():
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
