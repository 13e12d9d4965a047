"""From a site's reply to its update: held to the slice that it was sent and to what it declared.

How many examples it may claim, the gate knows.
"""

from fedkim.engines.flower.messages import Reply
from fedkim.engines.flower.roster import Registered
from fedkim.engines.flower.wire import decode, state_from, upload_form
from fedkim.errors import FedkimError
from fedkim.state import State, Update


def update_from(reply: Reply, body: bytes, base: State, site: Registered, *, uploads: str) -> Update:
    """The update in a good reply.

    Args:
        reply: its header, which answers the question that was asked.
        body: its tensors.
        base: the slice that the site was sent.
        site: as the manifest has it.
        uploads: form of the tensors, see :mod:`fedkim.engines.flower.wire`.

    Raises:
        FedkimError: tensors of another form, a component that isn't the site's, no mean loss.
    """
    form = upload_form(base, unchanged=reply.unchanged, uploads=uploads)
    sent = state_from(body, most=base.num_bytes, expected=form)
    if not set(reply.num_examples) | set(reply.unchanged) <= set(site.declared):
        raise FedkimError("an update", found="a component that isn't the site's")
    if "loss" not in reply.metrics:
        raise FedkimError("an update", found="no mean loss", expected="metrics.loss")
    return Update(
        site=site.name,
        round=reply.round,
        base_digest=reply.base,
        state=decode(sent, base, unchanged=reply.unchanged, uploads=uploads),
        num_examples=dict(reply.num_examples),
        metrics={"seconds": reply.seconds, **reply.metrics},
    )
