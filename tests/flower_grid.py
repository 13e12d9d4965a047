"""A grid in this process with a clock of its own: what Flower would carry, without Flower's programs."""

from types import SimpleNamespace

from flwr.app import Error, Message
from flwr.supercore.task_identity import TaskIdentity

from fedkim.engines.flower.content import pack, unpack
from fedkim.engines.flower.fingerprint import fingerprint

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1  # a message wants to know its run


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Grid:
    """Nodes by number, each with a public key and a function ``(header, body) -> (header, body)``.

    A function that returns None never answers, one that returns an int answers with Flower's error of that code.
    """

    def __init__(self):
        self.nodes, self.answers, self.pushed, self.waiting = {}, {}, [], {}

    def connect(self, number, public_key, answer, *, activated="1"):
        self.nodes[number] = SimpleNamespace(
            node_id=number, public_key=fingerprint(public_key), last_activated_at=activated
        )
        self.answers[number] = answer

    def get_nodes(self):
        return list(self.nodes.values())

    def push_messages(self, messages):
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

    def pull_messages(self, identities):
        return [self.waiting.pop(identity) for identity in list(identities) if identity in self.waiting]
