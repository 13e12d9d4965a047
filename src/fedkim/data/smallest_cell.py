"""The one limit below which a number about patients isn't told: what describes so few may describe one."""

SMALLEST_CELL = 10
"""Patients (in all, of a group, of a site, of an answer) that a published number must at least describe."""
