"""Flower's list of nodes brought to a list of keys, in a process of its own: ``python -m fedkim.coordinator.nodes CONNECTION``.

On stdin ``{site: public key}``, one line of OpenSSH each; the last line of stdout is JSON::

    {"registered": ["site-2"], "removed": 1, "refused": [], "stopped": 0}

A node is known by its key alone and nothing is noted beside Flower's own list, so this may be killed anywhere and run again. A key
that Flower has removed can't be registered a second time: its site is ``refused``, and then nothing is changed. Runs that an earlier
start left behind unfinished are stopped: beside the next one they would be a second loop.

Flower's commands show no keys, hence its client (as ``flwr supernode list`` makes it); Flower reads ``FLWR_HOME`` as it is imported,
hence the process.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from fedkim.engines.flower.fingerprint import fingerprint

_GONE = "unregistered"
_OVER = "finished"


def bring(client: Any, sites: Mapping[str, str]) -> dict[str, Any]:
    """Register who came, remove who left, stop what is left over.

    Args:
        client: of Flower's Control API.
        sites: public key by name.
    """
    from flwr.proto import control_pb2 as messages

    wanted = {fingerprint(key): name for name, key in sites.items()}
    nodes = {node.public_key: node for node in client.ListNodes(messages.ListNodesRequest()).nodes_info}
    refused = [name for key, name in wanted.items() if key in nodes and nodes[key].status == _GONE]
    if refused:
        return {"registered": [], "removed": 0, "refused": sorted(refused), "stopped": 0}
    left = [node for key, node in nodes.items() if key not in wanted and node.status != _GONE]
    for node in left:
        client.UnregisterNode(messages.UnregisterNodeRequest(node_id=node.node_id))
    came = {key: name for key, name in wanted.items() if key not in nodes}
    for key, name in came.items():
        client.RegisterNode(messages.RegisterNodeRequest(public_key=key, name=name))
    runs = client.ListRuns(messages.ListRunsRequest()).run_dict
    stale = [number for number, run in runs.items() if run.status.status != _OVER]
    for number in stale:
        client.StopRun(messages.StopRunRequest(run_id=number))
    return {"registered": sorted(came.values()), "removed": len(left), "refused": [], "stopped": len(stale)}


def main(connection: str) -> int:
    """Read the sites, bring Flower's list to them, tell what was done; 1 with Flower's own words if it couldn't."""
    from flwr.cli.flower_config import read_superlink_connection
    from flwr.cli.utils import init_http_client_from_connection

    client = None
    try:
        client = init_http_client_from_connection(read_superlink_connection(connection))
        print(json.dumps(bring(client, json.load(sys.stdin))))
    except Exception as error:  # whatever Flower or its transport raises: the parent tells it, in a line
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        if client is not None:
            client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
