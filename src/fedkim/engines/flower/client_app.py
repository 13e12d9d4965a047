"""What Flower starts at a site for every message: it hands the bytes to the resident worker and the answer back.

Importing this takes no torch and no data. An exception would send its text to the coordinator, so none gets out.
"""

import os
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedkim.engines.flower.channel import SOCKET, ask
from fedkim.engines.flower.content import pack, unpack
from fedkim.engines.flower.messages import unanswered

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Forward one round."""
    header: dict[str, object] = {}
    try:
        header, body = unpack(message.content)
        seconds = header.get("seconds")
        timeout = float(seconds) if isinstance(seconds, int | float) else 60.0
        content = pack(*ask(Path(os.environ[SOCKET]), header, body, timeout=max(1.0, timeout)))
    except Exception:  # whatever it is, its text stays here
        content = pack(unanswered(header, "failed", "E-WORKER"), b"")
    return Message(content, reply_to=message)
