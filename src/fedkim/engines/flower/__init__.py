"""The engine across machines: Flower carries bytes between coordinator and sites, and does nothing else.

::

    coordinator                                                    site
    federate() -> FlowerExchange -> Grid == SuperLink == TLS == SuperNode -> client_app -> Unix socket -> worker

Used of Flower is its Message API alone. Its strategies, its numpy codec and its older packages are never imported.
"""
