"""Who is measured: each is a process of its own, started by its command and ended by its pid."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from msgspec import Struct

ROOT = Path(__file__).parents[1]
RIVALS = ROOT / ".tools" / "bench" / "bin" / "python"
"""The Python that Quix Streams is installed in: it wants an older confluent-kafka than Todoke does."""
END_S = 20.0


class System(Struct, frozen=True):
    """One of those measured. `group` is its consumer group, `namespace` begins the names of its topics."""

    name: str
    title: str
    namespace: str
    group: str
    command: tuple[str, ...]
    latency: bool = True


SYSTEMS = (
    System(
        "todoke", "Todoke, one worker", "", "todoke.intake", (str(Path(sys.executable).with_name("todoke")), "worker")
    ),
    System(
        "faust",
        "(a) Faust agent with a table",
        "faust.",
        "bench-faust",
        (sys.executable, "-m", "bench.rivals.faust_agent", "worker"),
    ),
    System(
        "quix", "(b) Quix Streams, exactly once", "quix.", "bench-quix", (str(RIVALS), "-m", "bench.rivals.quix_app")
    ),
    System(
        "bare",
        "(c) confluent-kafka, transactions, a dict",
        "bare.",
        "bench-bare",
        (sys.executable, "-m", "bench.rivals.bare_loop"),
        latency=False,
    ),
)


class Running:
    """A system's process; opened as a context, ended on leaving."""

    def __init__(self, system: System, environ: dict[str, str], log: Path) -> None:
        self.system = system
        self.environ = {**os.environ, **environ, "PYTHONPATH": f"{ROOT / '.editable'}:{ROOT}"}
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.system.command, cwd=ROOT, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def check(self) -> None:
        """Raise when it has ended by itself."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.system.name} ended by itself ({self.process.returncode}); its log is {self.log}")

    def memory_mb(self) -> float:
        """What of it is in memory now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def cpu_s(self) -> float:
        """CPU time that it has used, user and system, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
