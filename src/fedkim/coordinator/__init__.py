"""The coordinator's side of a federation on a network: its manifest, its keys, the programs it starts, the loop they run."""
