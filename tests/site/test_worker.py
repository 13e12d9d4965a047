"""The resident worker and the process of one message: bytes in, bytes out, and no exception's text."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

import flower_grid
from fedkim.engines.flower.channel import SOCKET, ChannelError, ask, receive, send
from fedkim.engines.flower.client_app import train
from fedkim.engines.flower.content import pack, unpack
from fedkim.engines.flower.messages import Request, request_from, to_header, unanswered
from fedkim.errors import FedkimError
from fedkim.site.worker import serve

assert flower_grid

REQUEST = Request(
    run="run",
    round=1,
    site="ward",
    nonce="0",
    recipe="abc",
    base="",
    components={"encoder.image": "1"},
    contributors={},
)


class Echo:
    def answer(self, header, body):
        return {**header, "length": len(body)}, body[::-1]


@pytest.fixture
def worker(tmp_path):
    path = tmp_path / "worker"
    threading.Thread(target=serve, args=(Echo(), path), daemon=True).start()
    ends = time.monotonic() + 30
    while not path.exists() or stat.S_IMODE(path.stat().st_mode) != 0o600:
        assert time.monotonic() < ends, "no socket that its owner alone can open"
        time.sleep(0.01)
    return path


def test_only_the_owner_can_open_the_socket(worker):
    assert stat.S_ISSOCK(worker.stat().st_mode)
    assert stat.S_IMODE(worker.stat().st_mode) == 0o600


def test_a_process_of_another_user_gets_no_answer(worker, monkeypatch):
    """The socket's mode stops most of them; one that reaches it all the same is told nothing."""
    own = os.getuid()
    monkeypatch.setattr("fedkim.site.worker.os.getuid", lambda: own + 1)
    with pytest.raises(OSError):  # noqa: PT011  closed, or reset, before a reply
        ask(worker, {"a": 1}, b"abc", timeout=10)
    monkeypatch.undo()
    assert ask(worker, {"a": 1}, b"abc", timeout=10)[1] == b"cba"


def test_a_question_is_answered(worker):
    body = os.urandom(1 << 20)
    assert ask(worker, {"a": 1}, body, timeout=10) == ({"a": 1, "length": 1 << 20}, body[::-1])


def test_nonsense_closes_the_connection_and_the_worker_lives_on(worker):
    for data in (b"", b"\xff" * 16, b"\x00" * 16, (5).to_bytes(8, "big") + bytes(8) + b"[1,2]"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(worker))
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    assert ask(worker, {}, b"", timeout=10)[0] == {"length": 0}


def test_a_bare_question_may_be_answered_before_it_is_fully_sent():
    one, two = socket.socketpair()

    class Answered:
        """A connection whose other end answers and hangs up as soon as it has read the header."""

        def sendall(self, data):
            one.sendall(data)
            receive(two)
            send(two, {"heard": True})
            two.close()

    with one:
        send(Answered(), {"a": 1})
        assert receive(one) == ({"heard": True}, b"")


def test_lengths_are_checked_before_anything_is_allocated():
    one, two = socket.socketpair()
    with one, two:
        one.sendall((1 << 40).to_bytes(8, "big") + bytes(8))
        with pytest.raises(ChannelError, match="larger than allowed"):
            receive(two)


def message(header, body=b""):
    content = pack(header, body) if header is not None else RecordDict()
    return Message(content, 1, "train")


def test_the_process_of_a_message_hands_on_what_the_worker_says(worker, monkeypatch):
    monkeypatch.setenv(SOCKET, str(worker))
    header, body = unpack(train(message({"seconds": 5.0}, b"abc"), None).content)
    assert (header, body) == ({"seconds": 5.0, "length": 3}, b"cba")


@pytest.mark.parametrize("header", [{"run": "r", "round": 2, "site": "s", "nonce": "n", "seconds": 1.0}, None])
def test_without_a_worker_a_code_goes_back_and_no_text(header, tmp_path, monkeypatch):
    monkeypatch.setenv(SOCKET, str(tmp_path / "patient-4711"))
    reply = train(message(header), None)
    assert not reply.has_error()
    answer, body = unpack(reply.content)
    assert (answer["status"], answer["code"], body) == ("failed", "E-WORKER", b"")
    assert "4711" not in str(answer)


ODD = '{"run": "r", "round": NaN, "site": 1e999, "nonce": ["Jane Canary Doe"], "seconds": 1.0}'


def test_a_question_that_cannot_be_repeated_is_answered_without_what_is_odd(tmp_path, monkeypatch):
    monkeypatch.setenv(SOCKET, str(tmp_path / "nobody"))
    content = RecordDict({"header": ConfigRecord({"json": ODD})})
    answer, _ = unpack(train(Message(content, 1, "train"), None).content)
    assert answer == {"run": "r", "round": 0, "site": "", "nonce": "", "status": "failed", "code": "E-WORKER"}
    assert unanswered(json.loads(ODD), "refused", "E-REQUEST") == {**answer, "status": "refused", "code": "E-REQUEST"}


def test_the_process_of_a_message_loads_no_torch():
    code = "import sys, fedkim.engines.flower.client_app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_request_survives_its_header():
    assert request_from(to_header(REQUEST)) == REQUEST


def test_a_form_of_uploads_that_isnt_known_is_refused_before_anybody_trains():
    with pytest.raises(FedkimError, match="field 'uploads' of a message, found 'int8', expected float32 or bfloat16"):
        request_from({**to_header(REQUEST), "uploads": "int8"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(to_header(REQUEST))), json_values))
def test_a_header_from_elsewhere_is_a_request_or_a_plain_error(changes):
    try:
        request = request_from({**to_header(REQUEST), **changes})
    except FedkimError:
        return
    assert request_from(to_header(request)) == request


def test_what_a_header_holds_is_never_repeated_in_an_error():
    with pytest.raises(FedkimError) as error:
        request_from({**to_header(REQUEST), "site": "Jane Canary Doe"})
    assert "Canary" not in str(error.value)


def test_send_and_receive_are_inverse():
    one, two = socket.socketpair()
    with one, two:
        send(one, {"a": [1, "b"]}, b"xyz")
        assert receive(two) == ({"a": [1, "b"]}, b"xyz")
