"""Answers that no Redis gives, each by its kind: one sentence in our own words, and no figure made of them."""

import random
import socket
import time
from contextlib import suppress

import pytest

from tests.support.hostile_redis import Part, answers, bulk, requests, server
from vdscheck.codec import encode
from vdscheck.model.absence import UnavailableError
from vdscheck.probes.redis import latency as redis_latency
from vdscheck.probes.redis import state as redis_state
from vdscheck.probes.redis.url import RedisServer
from vdscheck.target.host import Host

GOOD: dict[str, bytes | Part] = {
    "ping": b"+PONG\r\n",
    "info": bulk(b"redis_version:7.0.15\r\nused_memory:1\r\n"),
    "config": b"*0\r\n",
    "latency": b"*0\r\n",
    "exists": b":0\r\n",
}
WINDOW_S = 0.2


def at(port: int) -> RedisServer:
    (found,) = RedisServer.chosen({"redis": [f"redis://127.0.0.1:{port}"]}).values()
    return found


def latency(part: Part) -> str:
    """What measuring a server's latency comes to: why not, or that it was measured."""
    with server(part) as port:
        try:
            for found in redis_latency.measured(Host(ends_at=time.monotonic() + 5), at(port), WINDOW_S):
                assert encode(found)
        except UnavailableError as error:
            return error.absent.detail.replace(f"127.0.0.1:{port} ", "")
        if found.serving is None:
            assert found.serving_absent is not None
            return f"measured, but {found.serving_absent.detail}".replace(f"127.0.0.1:{port} ", "")
        return "measured"


def state(part: Part) -> str:
    with server(part) as port:
        try:
            encode(redis_state.asked(Host(ends_at=time.monotonic() + 5), at(port)))
        except UnavailableError as error:
            return error.absent.detail.replace(f"127.0.0.1:{port} ", "")
        return "measured"


NO_INFO = "answers INFO with nothing that INFO has"


@pytest.mark.parametrize(
    "answer",
    [
        b"*-1\r\n",
        b"$-1\r\n",
        b":5\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n*-1\r\n",
        b"*1\r\n*1\r\n*1\r\n$4\r\nINFO\r\n",
    ],
    ids=["null list", "null", "number", "empty list", "nested list", "deep list"],
)
def test_an_info_that_is_no_text_leaves_the_latency_measured(answer: bytes) -> None:
    assert latency(answers(**GOOD | {"info": answer})) == f"measured, but {NO_INFO}"
    assert state(answers(**GOOD | {"info": answer})) == NO_INFO


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"*1\r\n+PONG\r\n", "answers PING with a list: not what Redis does"),
        (b"*-1\r\n", "answers PING with nothing: not what Redis does"),
        (b"$-1\r\n", "answers PING with nothing: not what Redis does"),
        (b":1\r\n", "answers PING with a number: not what Redis does"),
        (b"+PO\rNG\r\n", "answers PING with PO\\rNG: not what Redis does"),
        (b"+\r\n", "answers PING with : not what Redis does"),
        (b"$1.5\r\nx\r\n", "answers PING with $1.5"),
        (b":" + b"9" * 5000 + b"\r\n", "answers PING with :9999"),
        (b">2\r\n+message\r\n+x\r\n", "answers PING with >2"),
        (b"#t\r\n", "answers PING with #t"),
        (b"%1\r\n+a\r\n+b\r\n", "answers PING with %1"),
        (b"_\r\n", "answers PING with _"),
        (b"=8\r\ntxt:PONG\r\n", "answers PING with =8"),
        (b"\r\n", ""),
        (b"-\r\n", "refuses PING: "),
        (b"-ERR \x1b[2Jhello\r\n", "refuses PING: ERR \\x1b[2Jhello"),
    ],
)
def test_what_is_no_pong_is_told_in_our_own_words(answer: bytes, said: str) -> None:
    found = latency(answers(**GOOD | {"ping": answer}))
    assert found.startswith(said)
    assert len(found.splitlines()) == 1
    assert "Error" not in found


def ahead(count: int, pause_s: float = 0.0) -> Part:
    """Some answers before anything is asked, and then one for each question."""

    def part(connection: socket.socket) -> None:
        connection.sendall(b"+PONG\r\n" * count)
        time.sleep(pause_s)
        answers(**GOOD)(connection)

    return part


def later(after: int) -> Part:
    """One answer too much, in the middle."""

    def part(connection: socket.socket) -> None:
        for number, words in enumerate(requests(connection)):
            answer = GOOD.get(words[0].decode().lower(), b"+OK\r\n")
            assert isinstance(answer, bytes)
            connection.sendall(answer * (2 if number == after else 1))

    return part


UNASKED = "sends something before it is asked for "


@pytest.mark.parametrize("count", [2, 50, 5000])
def test_answers_before_their_questions_are_no_round_trips(count: int) -> None:
    assert latency(ahead(count)).startswith(UNASKED)


def test_one_answer_ahead_is_seen_once_it_is_there() -> None:
    found = latency(ahead(1))
    assert found.startswith((UNASKED, "answers INFO", "measured, but answers INFO")) or "answers PING" in found


@pytest.mark.parametrize("after", [0, 1, 5, 20])
def test_an_answer_too_much_in_the_middle_is_seen(after: int) -> None:
    assert latency(later(after)).startswith((UNASKED, "answers PING with"))


@pytest.mark.parametrize("question", ["ping", "info", "latency", "config"])
def test_two_answers_to_each_question_are_seen(question: str) -> None:
    answer = GOOD[question]
    assert isinstance(answer, bytes)
    found = latency(answers(**GOOD | {question: answer * 2}))
    assert found.startswith((UNASKED, "answers PING with"))


def test_a_refusal_before_the_question_is_what_it_is() -> None:
    def part(connection: socket.socket) -> None:
        connection.sendall(b"-ERR max number of clients reached\r\n")

    assert latency(part) == "refuses connections: its maximum number of clients (maxclients) is reached"


def test_an_account_beyond_all_measure_is_told_as_the_largest_there_is() -> None:
    most = b"9" * 18
    counted = iter(range(1 << 30))

    def info(connection: socket.socket) -> None:
        share = int(most) if next(counted) > 2 else 0
        lines = [b"cmdstat_x%d:calls=%d,usec=%d,a=1" % (number, share, share) for number in range(3000)]
        connection.sendall(bulk(b"redis_version:7.0.15\r\n" + b"\r\n".join(lines)))

    assert latency(answers(**GOOD | {"info": info})) == "measured"


SEED = 20261129
PIECES = (
    b"+PONG\r\n", b"$4\r\nPONG\r\n", b"*-1\r\n", b"$-1\r\n", b"*2\r\n", b"*1\r\n", b":1\r\n", b":-1\r\n",
    b"-ERR x\r\n", b"\r", b"\n", b"\0", b"$5\r\nab", b">3\r\n", b"%2\r\n", b"~1\r\n", b",nan\r\n", b"(9\r\n",
    b"!3\r\nabc\r\n", b"|1\r\n", b"$0\r\n\r\n", b"*0\r\n", b"x", b"\xff\xfe", b"\x1b[2J", b"*99999999999\r\n",
    b"$-7\r\n", b"HTTP/1.1 ", b"\x15\x03\x01",
)  # fmt: skip


def nonsense(number: int) -> dict[str, bytes | Part]:
    """Answers to one or two kinds of question put together of pieces of the protocol, by chance."""
    chance = random.Random(SEED + number)
    kinds = chance.sample(sorted(GOOD), chance.randint(1, 2))
    return {kind: b"".join(chance.choices(PIECES, k=chance.randint(1, 4))) for kind in kinds}


def in_own_words(drawn: dict[str, bytes | Part]) -> None:
    with suppress(socket.timeout):
        for found in (latency(answers(**GOOD | drawn)), state(answers(**GOOD | drawn))):
            assert len(found.splitlines()) == 1, drawn
            assert "\x1b" not in found
            assert "KeyError" not in found
            assert "Traceback" not in found


@pytest.mark.parametrize("number", range(6))
def test_pieces_of_the_protocol_are_an_answer_or_one_sentence(number: int) -> None:
    in_own_words(nonsense(number))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6, 300))
def test_many_pieces_of_the_protocol(number: int) -> None:
    in_own_words(nonsense(number))
