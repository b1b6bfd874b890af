"""Writes streams/embedded/jars.txt: python tests/streams/embedded/make_jars.py, after a change of `kafka.VERSION` or of BINDING.

It asks jgo for everything that Kafka needs at run time, downloads it and notes the hashes.
"""

import hashlib
from pathlib import Path

import jgo

from todoke.streams.embedded import jars, kafka

BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!"
"""Without it the broker logs nothing. The ! leaves out what its parent manages, which would replace kafka-clients by 3.9."""

ROOT = Path(__file__).parents[3]


def main() -> None:
    found = []
    for each in jgo.resolve(f"org.apache.kafka:kafka_2.13:{kafka.VERSION}+{BINDING}"):
        body = each.resolve().read_bytes()
        found.append(jars.Jar(each.groupId, each.artifactId, each.version, len(body), hashlib.sha256(body).hexdigest()))
    found.sort(key=lambda jar: (jar.group, jar.artifact))
    (ROOT / "streams" / "embedded" / jars.LIST).write_text(jars.encode(found))


if __name__ == "__main__":
    main()
