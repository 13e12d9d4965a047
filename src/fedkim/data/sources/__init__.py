"""Readers of real data: the pack and the published sets, each in its published layout."""
