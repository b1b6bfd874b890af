"""The one writer of a log: entries in, a signed checkpoint out (C2SP tlog-tiles, tlog-checkpoint).

Each publication goes bundles, tiles, guard, checkpoint, every step durable before the next. What a crash leaves is either
not spoken of by any checkpoint, and written again to the byte since entries come from the vault, or it is whole and
signed at the guard, and only the checkpoint is put in its place. Witnesses are asked after the guard, so that no witness
has seen what the guard doesn't know.

The guard is another place that holds the newest checkpoint. A log that was brought back from an older backup doesn't hold
what the guard speaks of; this writer then refuses to sign, since it would sign a second history.
"""

from collections.abc import Sequence

from todoke.processors.checkpoint import Checkpoint, Signer, opened, parse_note, sign, signed_by
from todoke.processors.merkle import Edge, check_consistency, consistency, edge, leaf_hash, root_of
from todoke.processors.tiles import (
    CHECKPOINT,
    COSIGNED,
    HASH_BYTES,
    HEIGHT,
    PARTIAL,
    WIDTH,
    bundle,
    hashes_of,
    pack,
    tile,
    unpack,
    widths,
)
from todoke.schemas.errors import Fenced, Misconfigured, Unproved

from .tiles import Storage
from .witness import Witnesses


class Log:
    """A log that is open for writing. Raises `Fenced` where somebody else writes, or has written since."""

    def __init__(
        self,
        storage: Storage,
        guard: Storage | None,
        signers: Sequence[Signer],
        witnesses: Witnesses | None = None,
    ) -> None:
        """The first signer's name is the log's origin; all of them sign. Raises `Unproved` where the log isn't whole.

        Witnesses need a guard: what they have seen must be known here, even when the process died right after.
        """
        if witnesses and not guard:
            raise Misconfigured("log: witnesses need a guard: name a place for the guard, or no witnesses")
        self._storage = storage
        self._guard = guard
        self._witnesses = witnesses
        self._cosigned = storage.read(COSIGNED) if witnesses else None
        self._lacking = False  # witnesses haven't been asked for the newest checkpoint, or were not enough
        self._signers = signers
        self.origin = signers[0].name
        self._keys = [each.verifier() for each in signers]
        self._published = storage.read(CHECKPOINT)
        self._guarded = guard.read(CHECKPOINT) if guard else None
        self.checkpoint = Checkpoint(self.origin, 0, Edge().root())
        self._edge = Edge()
        self._tiles: list[list[bytes]] = []
        self._bundle: list[bytes] = []
        if self._published is not None:
            self._load(opened(self._published, self._keys, self.origin))
        if self._guarded is not None:
            self._heed(opened(self._guarded, self._keys, self.origin))
        if not self._signed_by_all() and (self._published is not None or guard is not None):
            self._publish_both()  # a new key signs from here on; a new log claims both places, so that two first writers meet
        self._tidy_all()

    @property
    def size(self) -> int:
        """How many entries the signed log has."""
        return self.checkpoint.size

    def publish(self, entries: Sequence[bytes]) -> Checkpoint:
        """Append entries after those that are there. What it returns is signed, durable and known to the guard.

        Without entries, witnesses that were not enough are asked again. After it has raised, this writer is of no use any
        more: open the log anew.
        """
        if entries:
            begin = self._edge.size
            self._extend(entries)
            self._publish_both()
            for level in range(len(self._tiles)):
                for index in range(begin >> HEIGHT * (level + 1), self._edge.size >> HEIGHT * (level + 1)):
                    self._tidy(level, index - 1)
        elif self._lacking and self._witnesses and self._witnesses.due():
            self._show(self._newest())
        return self.checkpoint

    def close(self) -> None:
        """Let others write."""
        self._storage.close()
        if self._guard:
            self._guard.close()
        if self._witnesses:
            self._witnesses.close()

    def _load(self, found: Checkpoint) -> None:
        """The right edge of the log that this checkpoint speaks of, from its tiles."""
        read = self._storage.read
        tree = edge(found.size, hashes_of(found.size, read))
        if tree.root() != found.root:
            raise Unproved(f"log: the tiles of {found.size} entries don't lead to the root of their checkpoint")
        self._tiles = []
        for level, index, width in widths(found.size):
            self._tiles += [[] for _ in range(level - len(self._tiles) + 1)]
            data = read(tile(level, index, width)) or read(tile(level, index)) or b""
            self._tiles[level] = [data[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES)]
        number, width = divmod(found.size, WIDTH)
        self._bundle = []
        if width:
            packed = read(bundle(number, width)) or read(bundle(number)) or b""
            self._bundle = unpack(packed)[:width]
            if [leaf_hash(each) for each in self._bundle] != self._tiles[0]:
                raise Unproved(f"{bundle(number, width)}: its entries are not those of the tile")
        self._edge, self.checkpoint = tree, found

    def _heed(self, guarded: Checkpoint) -> None:
        """Go on only from what the guard has seen."""
        if guarded.size > self.size:
            try:
                self._load(guarded)
            except Unproved:
                raise Fenced(
                    f"log: it has {self.size} entries, but {guarded.size} have been signed, as the guard knows: bring back"
                    " the newest copy of the log, and never sign without it"
                ) from None
            # the last writer died between the guard and the checkpoint
            self._show(self._newest())
            return
        size, root, hashes = self.size, self.checkpoint.root, hashes_of(self.size, self._storage.read)
        try:
            check_consistency(guarded.size, size, consistency(guarded.size, size, hashes), guarded.root, root)
        except Unproved as error:
            raise Fenced(
                f"log: the guard knows another history of {guarded.size} entries, or a tile was changed: find out ({error})"
            ) from None

    def _signed_by_all(self) -> bool:
        """Whether every key of ours has signed what is published: one that was added has not."""
        note = parse_note(self._published) if self._published is not None else None
        return note is not None and all(signed_by(note, key) for key in self._keys)

    def _tidy(self, level: int, index: int) -> None:
        """Let go of partial tiles whose full one stands since a whole tile ago, so that whoever reads slowly finds them."""
        if index >= 0:
            self._storage.clear(tile(level, index) + PARTIAL)
            if level == 0:
                self._storage.clear(bundle(index) + PARTIAL)

    def _tidy_all(self) -> None:
        """What the last writer may have died before."""
        for level in range(len(self._tiles)):
            self._tidy(level, (self.size >> HEIGHT * (level + 1)) - 2)

    def _extend(self, entries: Sequence[bytes]) -> None:
        begin = self._edge.size
        for entry in entries:
            leaf = leaf_hash(entry)
            self._edge.append(leaf)
            self._bundle.append(entry)
            if len(self._bundle) == WIDTH:
                self._storage.create(bundle(self._edge.size // WIDTH - 1), pack(self._bundle))
                self._bundle = []
            self._add(0, leaf)
        if self._bundle:
            self._storage.create(bundle(self._edge.size // WIDTH, len(self._bundle)), pack(self._bundle))
        for level, index, width in widths(self._edge.size):
            if self._edge.size >> (8 * level) != begin >> (8 * level):
                self._storage.create(tile(level, index, width), b"".join(self._tiles[level]))

    def _add(self, level: int, value: bytes) -> None:
        """A hash into the unfinished tile of its level; a tile that is full is written, and its root goes up."""
        if level == len(self._tiles):
            self._tiles.append([])
        hashes = self._tiles[level]
        hashes.append(value)
        if len(hashes) == WIDTH:
            index = (self._edge.size >> (8 * (level + 1))) - 1
            self._storage.create(tile(level, index), b"".join(hashes))
            self._tiles[level] = []
            self._add(level + 1, root_of(hashes))

    def _publish_both(self) -> None:
        made = Checkpoint(self.origin, self._edge.size, self._edge.root())
        note = sign(made, self._signers).dump()
        if self._guard:
            self._guard.swap(CHECKPOINT, self._guarded, note)
            self._guarded = note
        self.checkpoint = made
        self._show(note)

    def _newest(self) -> bytes:
        """The note of `checkpoint`, as it was signed: the guard has it, whether or not it has been shown."""
        assert self._guarded is not None
        return self._guarded

    def _show(self, signed: bytes) -> None:
        """Put the newest checkpoint in its place, with what witnesses say of it."""
        enough = True
        if self._witnesses:
            enough = False
            if self._witnesses.due():
                hashes = hashes_of(self.size, self._storage.read)
                note, enough = self._witnesses.ask(parse_note(signed), self.checkpoint, hashes)
                signed = note.dump()
            self._lacking = not enough
            if enough:
                self._storage.swap(COSIGNED, self._cosigned, signed)
                self._cosigned = signed
        if (enough or not self._witnesses or not self._witnesses.policy.required) and signed != self._published:
            self._storage.swap(CHECKPOINT, self._published, signed)
            self._published = signed
