"""Faults on purpose: processes killed, files damaged, disks filled, updates poisoned; each figure beside its target."""
