"""Programs under supervision: what their logs say last."""

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.engines.flower.processes import Child


def test_the_last_words_of_a_log_are_its_last_lines(tmp_path):
    child = Child("worker", [], tmp_path / "log", {})
    assert child.last_words() == ""
    for text in ("one\ntwo\nthree\n", "one\ntwo\nthree"):
        (tmp_path / "log").write_text(text)
        assert child.last_words(1) == "three"
        assert child.last_words(2) == "two | three"
