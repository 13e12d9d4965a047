"""Flower's SuperLink behind a gate: hospitals reach its fleet interface, this machine alone reaches all of it.

Flower serves three interfaces on one port. It asks the hospitals for their keys on ``/v1/fleet/``; on the others, by which apps are
submitted and nodes are registered, it asks nobody for anything. Run as ``python -m fedkim.coordinator.superlink`` with the arguments
of ``flower-superlink``.
"""

import logging
import sys
from importlib import import_module

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fedkim.site.address import LOOPBACK

FLEET = "/v1/fleet/"
"""What hospitals need, and all of what Flower asks for their keys."""


class Gate:
    """An app that answers callers from elsewhere on the fleet interface alone; on all else they get status 403."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a call on to the app, or refuse it."""
        let_in = scope["type"] == "lifespan" or scope["path"].startswith(FLEET) or _from_here(scope)
        refusal = PlainTextResponse("for programs of the coordinator's machine alone", status_code=403)
        await (self.app if let_in else refusal)(scope, receive, send)


def _from_here(scope: Scope) -> bool:
    """Whether a call comes from this machine: from loopback, or from the very address at which it arrived."""
    caller, arrived = scope.get("client"), scope.get("server")
    return caller is not None and arrived is not None and caller[0] in (*LOOPBACK, arrived[0])


def main() -> int:
    """What Flower's own command does, with the app behind the gate.

    Its parts are called by their names: a Flower that has others ends here, rather than serving without the gate.
    """
    import uvicorn
    from flwr.supercore.http_logging import get_uvicorn_log_config
    from flwr.superlink.main import create_app

    flower = import_module("flwr.superlink.cli.flower_superlink")  # Flower's package hides the module behind a function
    settings = flower._parse_superlink_lifespan_config()
    uvicorn.run(
        Gate(create_app(settings, flower.SuperLinkLifespan)),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        log_config=get_uvicorn_log_config(logging.INFO),
        forwarded_allow_ips=list(LOOPBACK),  # whoever calls from elsewhere can't claim another address
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
