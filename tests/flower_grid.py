"""A grid in this process with a clock of its own: what Flower would carry, without Flower's programs."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from flwr.app import Error, Message
from flwr.supercore.task_identity import TaskIdentity

from fedkim.engines.flower.content import pack, unpack
from fedkim.engines.flower.fingerprint import fingerprint

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1  # a message wants to know its run

Answer = tuple[dict[str, Any], bytes]
"""A header, as JSON holds it, and a body."""
Answering = Callable[[dict[str, Any], bytes], Answer | int | None]


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Grid:
    """Nodes by number, each with a public key and a function ``(header, body) -> (header, body)``.

    A function that returns None never answers, one that returns an int answers with Flower's error of that code.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, SimpleNamespace] = {}
        self.answers: dict[int, Answering] = {}
        self.pushed: list[tuple[int, dict[str, Any], bytes]] = []
        self.waiting: dict[str, Message] = {}

    def connect(self, number: int, public_key: str, answer: Answering, *, activated: str = "1") -> None:
        self.nodes[number] = SimpleNamespace(
            node_id=number, public_key=fingerprint(public_key), last_activated_at=activated
        )
        self.answers[number] = answer

    def get_nodes(self) -> list[SimpleNamespace]:
        return list(self.nodes.values())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        identities = []
        for message in messages:
            identity = f"message-{len(self.pushed)}"
            message.metadata.__dict__["_message_id"] = identity
            header, body = unpack(message.content)
            number = message.metadata.dst_node_id
            self.pushed.append((number, header, body))
            answer = self.answers[number](header, body)
            if isinstance(answer, int):
                self.waiting[identity] = Message(Error(code=answer), reply_to=message)
            elif answer is not None:
                self.waiting[identity] = Message(pack(*answer), reply_to=message)
            identities.append(identity)
        return identities

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        return [self.waiting.pop(identity) for identity in list(identities) if identity in self.waiting]
