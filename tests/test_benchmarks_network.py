"""The faults of a federation that need no network: each row of the table comes out as it should."""

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from benchmarks.faults_grid import grid_rows
from benchmarks.faults_network import Row


def test_lost_replayed_and_foreign_updates_come_out_as_told():
    rows = list(grid_rows(Row))
    assert len(rows) == 3
    assert [row.fault for row in rows if not row.ok] == []
