"""The hospital's side of a federation on a network: its file, its policy, its audit log, its resident worker.

Everything here runs from the hospital's own installation. What arrives over the network is bytes and names, never code.
"""
