"""What was produced is left out while it is the same, and never when it is not."""

from todoke.streams.outbox import Letter
from todoke.streams.sent import KEPT, Sent

ONE = Letter("obligations", "o-1", b"open")


def test_what_the_broker_has_is_not_sent_again() -> None:
    sent = Sent()
    assert sent.unknown([ONE]) == [ONE]

    sent.note([ONE])

    assert sent.unknown([ONE]) == []


def test_another_value_another_key_and_another_topic_are_sent() -> None:
    sent = Sent()
    sent.note([ONE])
    others = [
        Letter("obligations", "o-1", b"done"),
        Letter("obligations", "o-2", b"open"),
        Letter("told", "o-1", b"open"),
    ]

    assert sent.unknown(others) == others


def test_it_forgets_rather_than_grows() -> None:
    sent = Sent()
    sent.note(Letter("obligations", f"o-{number}", b"") for number in range(KEPT))

    sent.note([ONE])

    assert sent.unknown([ONE, Letter("obligations", "o-7", b"")]) == [Letter("obligations", "o-7", b"")]
