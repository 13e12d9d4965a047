"""From a site's reply to its update: held to the slice that it was sent and to what it declared."""

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
        FedkimError: tensors of another form, a component that isn't the site's, more examples than it declared.
    """
    declared = site.declared
    form = upload_form(base, unchanged=reply.unchanged, uploads=uploads)
    sent = state_from(body, most=base.num_bytes, expected=form)
    if not set(reply.num_examples) | set(reply.unchanged) <= set(declared):
        raise FedkimError("an update", found="a component that isn't the site's")
    if any(count > declared[name] for name, count in reply.num_examples.items()):
        raise FedkimError("an update", found="more examples than the site declared")
    return Update(
        site=site.name,
        round=reply.round,
        base_digest=reply.base,
        state=decode(sent, base, unchanged=reply.unchanged, uploads=uploads),
        num_examples=dict(reply.num_examples),
        metrics={"loss": 0.0, "seconds": reply.seconds, **reply.metrics},
    )
