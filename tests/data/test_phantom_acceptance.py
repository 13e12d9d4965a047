import pytest

from fedkim.data.phantom import PhantomSettings
from fedkim.data.phantom.acceptance import RHOS, acceptance
from fedkim.data.phantom.table import as_record, as_text, over_seeds


@pytest.mark.slow
def test_every_task_meets_its_bands_and_transfer_grows_with_the_knob(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    table = acceptance(PhantomSettings(icu_patients=6000))
    assert [(row.task, row.misses()) for row in (*table.tasks, *table.questions) if row.misses()] == []
    for row in table.tasks:
        if row.proxy_by_rho:
            nothing, half, all_of_it = (row.proxy_by_rho[rho] for rho in RHOS)
            assert abs(nothing - 0.5) < 0.05
            assert half == pytest.approx(0.69, abs=0.06)
            assert all_of_it > 0.82
    assert "phantom sepsis" in as_text(table)


def test_the_table_is_computed_for_any_size_and_names_what_it_misses(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    table = acceptance(PhantomSettings(image_patients=0, signal_patients=0, icu_patients=200))
    assert [row.task for row in table.tasks] == ["mortality", "sepsis"]
    assert not table.questions
    text = as_text(table)
    for row in table.tasks:
        assert f"| phantom {row.task} |" in text
        assert f"{row.small:.3f}" in text
        assert row.oracle > row.small > 0.6
    other = acceptance(PhantomSettings(seed=1, image_patients=0, signal_patients=0, icu_patients=200))
    both = over_seeds([as_record(table), as_record(other)])
    for one, two in zip(table.tasks, other.tasks, strict=True):
        low, high = sorted([one.small, two.small])
        assert f"{low:.3f} – {high:.3f}" in both
