"""A hospital's own tables behind the network's ``site.toml``: one file, read by the loader and by the federation."""

import json
import re
import sys
from dataclasses import asdict, replace

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.aggregation import ALGORITHMS
from fedkim.cli import main
from fedkim.data.hospital import check, load_site_file
from fedkim.engines.flower.messages import Request, to_header
from fedkim.engines.flower.wire import component_digests
from fedkim.errors import FedkimError
from fedkim.extraction import Extractor
from fedkim.site import joining, worker
from fedkim.site.answering import Answering
from fedkim.site.audit import AuditLog, verify
from fedkim.site.dry_run import dry_run
from fedkim.site.participant import load_participant
from fedkim.site.shard import load_shard
from fedkim.state import State
from fedkim.tasks import TASKS
from hospital_files import PATIENT, edit, write_hospital
from small_recipe import small

RECIPE = small('tasks.seen=["covid"]', 'tasks.unseen=["pleural_effusion"]')
POLICY = f"""[policy]
recipe = "recipe.toml"
recipe_digest = "{RECIPE.digest()}"
tasks = ["covid"]
modalities = ["image"]
min_cohort = 12
"""


@pytest.fixture
def ward(tmp_path):
    """The site file of a hospital with twelve patients, all of whom may train."""
    path = write_hospital(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: whole.index("[policy]")] + POLICY, encoding="utf-8")
    edit(path, "[data]\n", '[data]\nsource = "hospital"\n')
    edit(path, "[site]\n", '[site]\nfolder = "records"\n')
    return path


def first_request(recipe, base):
    """What a coordinator asks in the first round, two sites owning every component."""
    components = component_digests(base)
    return Request(
        run="run", round=1, site="st-elsewhere", nonce="0", recipe=recipe.digest(), base=base.digest(),
        components=components, contributors=dict.fromkeys(components, 2),
    )  # fmt: skip


def test_one_site_file_serves_the_check_and_the_federation(ward):
    assert not check(ward).errors
    assert main(["data", "check", str(ward)]) == 0
    site = load_participant(ward)
    assert site.records == ward.parent / "records"
    shard = load_shard(site, site.recipe())
    assert shard.patients == {"decoder.covid": 12, "encoder.image": 12}
    assert not shard.dataset.synthetic
    assert {name for sample in shard.dataset for name in (*sample.inputs, *sample.labels)} == {"image", "covid"}


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('modalities = ["image"]', 'modalities = ["image", "ecg"]', "modality 'ecg'"),
        ('tasks = ["covid"]', 'tasks = ["covidd"]', "task 'covidd'; did you mean 'covid'"),
    ],
)
def test_a_policy_that_names_what_does_not_exist_is_refused(ward, old, new, word):
    edit(ward, old, new)
    site = load_participant(ward)
    with pytest.raises(FedkimError, match=word):
        load_shard(site, site.recipe())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_cohort", "min_cohrt", ("unknown key 'min_cohrt' in [policy]", "did you mean 'min_cohort'")),
        ('modalities = ["image"]', 'modalities = ["image", "ecg"]', ("[policy]: unknown modality 'ecg'",)),
        ('tasks = ["covid"]', 'tasks = ["pneumonia"]', ("no task of the approved recipe", "covid")),
        ('recipe = "recipe.toml"', 'recipe = "none.toml"', ("none.toml",)),
    ],
)
def test_the_check_tells_what_a_federation_would_refuse(ward, capsys, old, new, words):
    edit(ward, old, new)
    assert main(["data", "check", str(ward)]) == 2
    told = capsys.readouterr().out
    assert [word for word in ("E-SITE-FEDERATION", *words) if word not in told] == []
    assert str(ward.parent) not in told


ADDED = """from dataclasses import replace
from fedkim.tasks import TASKS
TASKS["ward_film"] = replace(TASKS["covid"], name="ward_film")
"""


def test_a_task_of_an_approved_plug_in_may_be_declared_and_an_unapproved_one_is_never_imported(
    ward, tmp_path, monkeypatch, capsys
):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "ward_film_task.py").write_text(ADDED)
    monkeypatch.syspath_prepend(tmp_path / "code")
    recipe = small('tasks.seen=["ward_film"]', "tasks.unseen=[]", 'run.plugins=["ward_film_task"]')
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    edit(ward, 'tasks = ["covid"]', 'tasks = ["ward_film"]')
    edit(ward, "[data.labels.covid]", "[data.labels.ward_film]")
    try:
        assert main(["data", "check", str(ward)]) == 2  # the recipe isn't the approved one
        assert "no such task" in capsys.readouterr().out
        assert "ward_film_task" not in sys.modules
        assert main(["data", "check", str(ward), "--recipe", str(tmp_path / "recipe.toml")]) == 2
        told = capsys.readouterr().out  # the label is known now; the policy still approves another recipe
        assert "no such task" not in told
        assert "E-SITE-FEDERATION" in told
        sys.modules.pop("ward_film_task")
        TASKS.pop("ward_film")
        edit(ward, RECIPE.digest(), recipe.digest())
        assert main(["data", "check", str(ward)]) == 0
        site = load_participant(ward)
        assert load_shard(site, site.recipe()).patients == {"decoder.ward_film": 12, "encoder.image": 12}
    finally:
        TASKS.pop("ward_film", None)
        sys.modules.pop("ward_film_task", None)


def test_more_bytes_than_the_policy_allows_stay_here(ward):
    edit(ward, "min_cohort = 12", "min_cohort = 12\nmax_bytes = 1000")
    site = load_participant(ward)
    audit = AuditLog(site.audit)
    answering = Answering(site, audit)
    base = answering.shape
    header, body = answering.answer(to_header(first_request(RECIPE, base)), base.to_bytes())
    audit.close()
    assert (header["status"], header["code"], body) == ("refused", "E-POLICY-BYTES", b"")
    assert verify(site.audit).sent == 0
    assert dry_run(site).refusal.code == "E-POLICY-BYTES"


def test_a_round_asked_twice_is_trained_once_and_logged_twice(ward, monkeypatch):
    """A reply may be lost on its way: the same bytes leave again, and the log says that they did."""
    site, trained = load_participant(ward), []
    train = Answering.train
    monkeypatch.setattr(Answering, "train", lambda *given: trained.append(given) or train(*given))
    audit = AuditLog(site.audit)
    answering = Answering(site, audit)
    request, base = first_request(RECIPE, answering.shape), answering.shape.to_bytes()
    (first, sent), (second, again) = (
        answering.answer(to_header(replace(request, nonce=nonce)), base) for nonce in ("0", "1")
    )
    audit.close()
    assert len(trained) == 1
    assert again == sent != b""
    assert (first["nonce"], second["nonce"]) == ("0", "1")
    assert {name for name in first if first[name] != second[name]} == {"nonce", "audit"}
    found = verify(site.audit, head=second["audit"])
    assert (found.entries, found.sent, found.bytes) == (2, 2, 2 * len(sent))


def test_rows_of_another_split_stay_out(ward):
    lines = (ward.parent / "patients.csv").read_text().splitlines()
    split = ["split", *("train" if number < 9 else "test" for number in range(12))]
    (ward.parent / "patients.csv").write_text("\n".join(f"{a},{b}" for a, b in zip(lines, split, strict=True)))
    edit(
        ward, "[data.columns]\n", '[data.splits]\ntrain = "private"\ntest = "test"\n\n[data.columns]\nsplit = "split"\n'
    )
    site = load_participant(ward)
    assert set(load_shard(site, site.recipe()).patients.values()) == {9}


def test_a_round_on_a_hospitals_own_tables_leaves_no_patients_value(ward, capsys):
    assert main(["site", "dry-run", str(ward)]) == 0
    told = capsys.readouterr().out
    assert "nothing was sent\n" in told
    assert "would refuse" not in told
    site = load_participant(ward)
    rehearsed = dry_run(site)
    audit = AuditLog(site.audit)
    answering = Answering(site, audit)
    base = Extractor(
        tasks=answering.shard.tasks, shapes={"image": (1, 64, 64)}, settings=RECIPE.extraction, seed=RECIPE.run.seed
    ).state()
    components = component_digests(base)
    header, body = answering.answer(to_header(first_request(RECIPE, base)), base.to_bytes())
    audit.close()
    assert (header["status"], header["num_examples"]) == ("ok", {"decoder.covid": 12, "encoder.image": 12})
    assert {name: State.from_bytes(body).slice([name]).digest() for name in components} != components
    assert verify(site.audit, head=header["audit"]).sent == 1
    logged = json.loads(site.audit.read_text().splitlines()[-1])
    assert (logged["num_examples"], logged["metrics"]) == (header["num_examples"], header["metrics"])
    left = [told, json.dumps(asdict(rehearsed)), json.dumps(header), body.decode("latin-1"), site.audit.read_text()]
    assert not any(PATIENT in text or "pos" in text.split() for text in left)
    assert PATIENT in (ward.parent / "patients.csv").read_text()


@pytest.mark.parametrize("name", ["site.toml", "recipe.toml"])
def test_an_edited_policy_or_recipe_stops_answers_until_somebody_joins_again(ward, name):
    answering = Answering(load_participant(ward), audit=None)
    base = answering.shape
    request = first_request(RECIPE, base)
    assert answering.refusal(request) is None
    path = ward.parent / name
    path.write_text(path.read_text().replace("min_cohort = 12", "min_cohort = 11").replace("seed = 0", "seed = 1"))
    header, body = answering.answer(to_header(request), base.to_bytes())
    assert (header["status"], header["code"], body) == ("refused", "E-POLICY-CHANGED", b"")


def test_a_worker_that_is_started_again_adopts_no_policy_that_was_edited_since_somebody_joined(ward, monkeypatch):
    joined, served = load_participant(ward), []
    monkeypatch.setattr(worker, "serve", lambda answering, path: served.append(answering))
    command = joining._worker(joined, ward.parent / "socket")
    for old, new, code in (("= 12", "= 12", ""), ("= 12", "= 11", "E-POLICY-CHANGED")):
        edit(ward, f"min_cohort {old}", f"min_cohort {new}")
        assert worker.main(command[command.index(str(ward)) :]) == 0
        answering = served.pop()
        answering.audit.close()
        refusal = answering.refusal(first_request(RECIPE, answering.shape))
        assert (refusal.code if refusal else "") == code


def test_a_file_that_is_edited_while_it_is_read_isnt_taken_for_what_was_read(ward, monkeypatch):
    def read_then_edited(path):
        file = load_site_file(path)
        edit(ward, "min_cohort = 12", "min_cohort = 11")
        return file

    monkeypatch.setattr("fedkim.site.participant.load_site_file", read_then_edited)
    answering = Answering(load_participant(ward), None)
    assert answering.site.policy.min_cohort == 12
    assert answering.refusal(first_request(RECIPE, answering.shape)).code == "E-POLICY-CHANGED"


def test_a_rehearsal_trains_nothing_that_the_policy_refuses_and_tells_what_the_gate_would(ward, monkeypatch, capsys):
    train = Answering.train

    def diverged(answering, round, base):
        update = train(answering, round, base)
        return replace(update, metrics={**update.metrics, "loss": float("nan")})

    monkeypatch.setattr(Answering, "train", diverged)
    assert dry_run(load_participant(ward)).refusal.code == "E-FINITE"
    monkeypatch.setattr(Answering, "train", lambda *_: pytest.fail("trained"))
    edit(ward, "min_cohort = 12", "min_cohort = 13")
    assert main(["site", "dry-run", str(ward)]) == 0
    assert "0 tensors" in (told := capsys.readouterr().out)
    assert "this site would refuse: E-POLICY-COHORT, " in told


def test_a_link_to_a_site_file_elsewhere_imports_the_plug_ins_that_lie_beside_its_target(ward, tmp_path, monkeypatch):
    """Until the recipe is read its tasks are unknown, and beside the link there is no recipe."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "linked_film_task.py").write_text(ADDED.replace("ward_film", "linked_film"))
    monkeypatch.syspath_prepend(tmp_path / "code")
    recipe = small('tasks.seen=["linked_film"]', "tasks.unseen=[]", 'run.plugins=["linked_film_task"]')
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    edit(ward, 'tasks = ["covid"]', 'tasks = ["linked_film"]')
    edit(ward, "[data.labels.covid]", "[data.labels.linked_film]")
    edit(ward, RECIPE.digest(), recipe.digest())
    link = tmp_path / "etc" / "site.toml"
    link.parent.mkdir()
    link.symlink_to(ward)
    try:
        assert load_participant(link).path == ward
    finally:
        TASKS.pop("linked_film", None)
        sys.modules.pop("linked_film_task", None)


def test_a_file_that_may_not_be_read_is_a_plain_error(ward, monkeypatch):
    """As where this account has no right to; a test may run as one that has every right."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fedkim.site.participant.file_digest", refuse)
    monkeypatch.setattr("fedkim.data.hospital.files.os.open", refuse)
    with pytest.raises(FedkimError, match="a file that may not be read"):
        load_participant(ward)


def test_links_in_a_circle_are_a_plain_error(tmp_path):
    (tmp_path / "site.toml").symlink_to(tmp_path / "site.toml")
    with pytest.raises(FedkimError, match=r"can't be opened"):
        load_participant(tmp_path / "site.toml")


def test_an_ecg_of_other_leads_than_the_coordinators_is_told_by_name_and_remedy(tmp_path, capsys):
    """One recipe, and yet other weights: how many leads there are says no recipe but the files."""
    recipe = small('tasks.seen=["ecg_abnormal"]', 'tasks.unseen=["ectopic_beats"]')
    path = write_hospital(tmp_path, leads=("II",))
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    whole = path.read_text(encoding="utf-8")
    policy = (
        POLICY.replace(RECIPE.digest(), recipe.digest()).replace("covid", "ecg_abnormal").replace("image", "signal")
    )
    path.write_text(whole[: whole.index("[policy]")] + policy.replace("= 12", "= 2"), encoding="utf-8")
    answering = Answering(load_participant(path), None)
    base = Extractor(
        tasks=answering.shard.tasks, shapes={"signal": (2, 1000)}, settings=recipe.extraction, seed=recipe.run.seed
    ).state()
    header, body = answering.answer(to_header(first_request(recipe, base)), base.to_bytes())
    assert (header["status"], header["code"], body) == ("failed", "E-ARCHITECTURE", b"")
    assert "data.ecg.leads sets an ECG's leads" in capsys.readouterr().out


def test_another_source_is_refused_with_the_two_that_there_are(ward):
    edit(ward, 'source = "hospital"', 'source = "hospitl"')
    with pytest.raises(FedkimError, match="expected 'hospital' or 'recipe'"):
        load_participant(ward)


def test_an_error_of_the_program_is_told_by_its_place_and_not_by_its_text(ward, capsys, monkeypatch):
    def broken(*_, **__):
        raise KeyError(f"{PATIENT}-03")

    monkeypatch.setattr("fedkim.data.hospital.load_site", broken)
    assert worker.main([str(ward), "--socket", str(ward.parent / "worker"), "--read", "", ""]) == 1
    told = "".join(capsys.readouterr())
    assert "KeyError" in told
    assert "shard.py" in told
    assert PATIENT not in told


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('folder = "records"', 'foldr = "records"', r"field 'site.foldr', found an unknown key; did you mean 'folder'"),
        (
            'source = "hospital"',
            'source = "recipe"\nshard = "site-1"',
            "field 'data.tables', found a declaration of your own files",
        ),
        ("[policy]", "[coordinator]\nadress = 1\n\n[policy]", r"\[coordinator\]: unknown key 'adress'"),
    ],
)
def test_a_key_that_nobody_knows_is_refused(ward, old, new, told):
    edit(ward, old, new)
    with pytest.raises(FedkimError, match=told):
        load_participant(ward)


@pytest.mark.parametrize("odd", ["x = " + "1" * 5000, "x = " + "[" * 5000])
def test_toml_that_no_reader_survives_is_a_plain_error(ward, odd):
    ward.write_text(f"{odd}\n{ward.read_text(encoding='utf-8')}", encoding="utf-8")
    with pytest.raises(FedkimError, match="broken TOML"):
        load_participant(ward)


def test_a_byte_order_mark_before_the_file_is_nothing(ward):
    ward.write_text(ward.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_participant(ward).name == "st-elsewhere"


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_site_takes_part_under_every_algorithm_of_its_coordinator(ward, algorithm):
    recipe = small('tasks.seen=["covid"]', "tasks.unseen=[]", f"federation.algorithm={algorithm}")
    (ward.parent / "recipe.toml").write_text(recipe.to_toml())
    edit(ward, RECIPE.digest(), recipe.digest())
    site = load_participant(ward)
    assert Answering(site, None).algorithm.name == algorithm


def test_a_sites_penalty_holds_it_near_to_the_broadcast(ward):
    """A leash that the coordinator's recipe names and no site wears would be FedAvg by another name."""

    def drift(*algorithm):
        recipe = small('tasks.seen=["covid"]', "tasks.unseen=[]", "extraction.local_epochs=5", *algorithm)
        (ward.parent / "recipe.toml").write_text(recipe.to_toml())
        ward.write_text(re.sub('recipe_digest = "[^"]*"', f'recipe_digest = "{recipe.digest()}"', ward.read_text()))
        answering = Answering(load_participant(ward), None)
        base = answering.shape
        header, body = answering.answer(to_header(first_request(recipe, base)), base.to_bytes())
        assert header["status"] == "ok"
        return sum((tensor - base[key]).square().sum().item() for key, tensor in State.from_bytes(body).items())

    assert 0 < drift("federation.algorithm=fedprox", "federation.proximal_mu=100") < 0.7 * drift()
