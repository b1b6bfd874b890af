"""Ports of the loopback interface."""

import random
import socket
from collections.abc import Collection

HOST = "127.0.0.1"
RANGE = range(20_000, 30_000)
"""Below the ports that Linux and macOS give to outgoing connections: one of those could take a port before its server."""


def free(count: int, but: Collection[int] = ()) -> list[int]:
    """Ports that nobody uses now, all different, none of `but`. Raises OSError when there aren't as many."""
    found: list[int] = []
    for port in random.SystemRandom().sample(RANGE, len(RANGE)):  # two processes must not draw alike
        if len(found) == count:
            break
        if port not in but and not obstacle(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"no {count} free ports between {RANGE.start} and {RANGE.stop}")
    return found


def obstacle(port: int) -> str:
    """Why no server can listen on `port`; empty when one can."""
    if taken(port):
        return "another program listens there"
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: connections just closed don't count
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            return str(getattr(error, "strerror", None) or error)
    return ""


def taken(port: int) -> bool:
    """Whether somebody listens on `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        try:
            return probe.connect_ex((HOST, port)) == 0
        except (OSError, OverflowError):
            return False
