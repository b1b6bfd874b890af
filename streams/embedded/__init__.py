"""The embedded stack: real Apache Kafka and real Valkey as child processes, for a laptop, the demo and the tests.

`stack` starts, finds and stops it; `parts` is the table of what it is made of, and says what a part is. Everything about
one directory is in that directory: `state.json` (who owns the stack, which processes, which ports), a folder and a log
for each part. `process` tells processes apart by pid and start time, `jars` fetches Kafka once into the user's cache.

Tried and not taken: an ahead-of-time cache of classes (JDK 25's `-XX:AOTCache`) halves the broker's two seconds of
CPU time at a start, but costs 4 s at the first stop, 67 MB, and a grandchild that nobody would find after a SIGKILL.
"""
