"""The manifest and the sites' files: what they say, who is who, and what a mistake is told as."""

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import tomllib
from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from cryptography import x509

from fedkim.coordinator.app import write_app
from fedkim.coordinator.certificates import make_certificates, require_certificate
from fedkim.coordinator.federation_file import load_federation_file, network_folder, require_sites
from fedkim.coordinator.manifest import add_site, remove_site
from fedkim.coordinator.standing import write_standing
from fedkim.coordinator.starting import start
from fedkim.coordinator.status import status_of, status_text
from fedkim.engines.flower.processes import flower_environment, program
from fedkim.errors import FedkimError
from fedkim.run import federate
from fedkim.site.address import joined_address, split_address
from fedkim.site.keys import make_site_keys
from fedkim.site.participant import load_participant
from fedkim.store.declared import remember_declared
from fedkim.store.events import Events
from fedkim.store.lock import lives
from fedkim.store.run_store import RunStore
from fedkim.tasks import TASKS
from small_recipe import small

RECIPE = small()


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    path = tmp_path / "federation.toml"
    path.write_text('# ours\n[recipe]\nfile = "recipe.toml"\nout = "run"\n')
    for number in (1, 2):
        key = tmp_path / f"site-{number}.key"
        make_site_keys(key)
        public = f"{key}.pub"
        add_site(path, name=f"site-{number}", key=public, modalities=["image"], tasks=["lung_opacity"], max_examples=9)
    return path


def test_a_site_owns_what_its_tasks_and_modalities_make(manifest):
    file = load_federation_file(manifest)
    with pytest.raises(FedkimError, match="checked over TLS alone"):
        require_sites(file)
    sealed(manifest)
    require_sites(load_federation_file(manifest))
    assert file.declared()["site-1"] == {"decoder.lung_opacity": 9, "encoder.image": 9}
    assert file.run_recipe.digest() == file.recipe.digest() == RECIPE.digest()


def test_a_site_with_questions_alone_owns_no_decoder(manifest, monkeypatch):
    task = replace(TASKS["lung_opacity"], modalities=("image", "text"))
    monkeypatch.setitem(TASKS, "lung_opacity", task)
    member = load_federation_file(manifest).sites["site-1"]
    assert replace(member, modalities=("text",)).declared(RECIPE) == {}
    assert set(member.declared(RECIPE)) == {"decoder.lung_opacity", "encoder.image"}


def sealed(manifest):
    """The manifest with certificates, so that it could be run."""
    make_certificates(manifest.parent / "tls", ["127.0.0.1"])
    names = 'authority = "tls/ca.crt"\ncertificate = "tls/server.pem"\nkey = "tls/server.key"\n'
    manifest.write_text(manifest.read_text() + "[tls]\n" + names)


def test_a_key_that_was_mistyped_or_stands_twice_is_told_by_its_sites_name(manifest):
    sealed(manifest)
    sites = tomllib.loads(manifest.read_text())["sites"]
    first, second = (sites[name]["public_key"] for name in ("site-1", "site-2"))
    whole = manifest.read_text()
    manifest.write_text(whole.replace(second, first + " of the ward upstairs"))
    with pytest.raises(FedkimError, match=r"\[sites.site-2\] public_key, found the key of site 'site-1'"):
        require_sites(load_federation_file(manifest))
    manifest.write_text(whole.replace(first, first[:60]))
    with pytest.raises(FedkimError, match=r"\[sites.site-1\] public_key, found something else.*fedkim site keys"):
        require_sites(load_federation_file(manifest))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fedkim.example.org", "Link.Ward.example.org", "10.0.0.5"])
def test_a_certificate_for_the_address_in_use_is_taken(host, tmp_path):
    make_certificates(tmp_path, ["fedkim.example.org", "*.ward.example.org", "10.0.0.5"])
    key, authority = tmp_path / "server.key", tmp_path / "ca.crt"
    require_certificate(tmp_path / "server.pem", host, "[tls] certificate", key=key, authority=authority)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("server.key", "other", "another key in"),
        ("server.key", "tls/ca.crt", "no private key in"),
        ("ca.crt", "other", "one that the authority in .* hasn't signed"),
        ("ca.crt", "tls/server.key", "no certificate in"),
    ],
)
def test_certificate_key_and_authority_belong_together_or_nothing_starts(manifest, name, content, found):
    sealed(manifest)
    make_certificates(manifest.parent / "other", ["127.0.0.1"])
    given = manifest.parent / (f"other/{name}" if content == "other" else content)
    (manifest.parent / "tls" / name).write_bytes(given.read_bytes())
    with pytest.raises(FedkimError, match=rf"\[tls\] certificate, found {found}"):
        start(load_federation_file(manifest), print)


def test_another_recipes_run_is_told_before_anything_starts_and_stands_as_it_stood(manifest):
    sealed(manifest)
    file = load_federation_file(manifest)
    with RunStore.open(file.out, file.run_recipe):
        pass
    file.state.mkdir()
    write_standing(file.state, "finished", digest="ab")
    before = (file.state / "standing.json").read_text()
    (manifest.parent / "recipe.toml").write_text(small("federation.rounds=9").to_toml())
    with pytest.raises(FedkimError, match=r"found the run of another recipe; .*\[recipe\] out"):
        start(load_federation_file(manifest), print)
    assert (file.state / "standing.json").read_text() == before


def test_where_a_runs_rounds_are_gone_it_is_said_that_another_run_begins(manifest):
    sealed(manifest)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        network = f'[network]\nhost = "127.0.0.1"\nport = {taken.getsockname()[1]}\n'
        manifest.write_text(manifest.read_text() + network)
        file, told = load_federation_file(manifest), []
        file.state.mkdir()
        for name in ("", "earlier"):
            if name:
                (file.state / "run-name").write_text(name)
            with pytest.raises(FedkimError, match="port"):
                start(file, told.append)
    assert told == [f"no run in {file.out} any more: another one begins at round 1, under another name to the sites"]


def test_a_chain_must_end_at_the_authority(manifest):
    sealed(manifest)
    tls = manifest.parent / "tls"
    make_certificates(manifest.parent / "other", ["127.0.0.1"])
    (tls / "server.pem").write_bytes((tls / "server.pem").read_bytes() + (tls / "ca.crt").read_bytes())
    given = {"key": tls / "server.key", "authority": tls / "ca.crt"}
    require_certificate(tls / "server.pem", "127.0.0.1", "x", **given)
    with pytest.raises(FedkimError, match="hasn't signed"):
        require_certificate(
            tls / "server.pem", "127.0.0.1", "x", **{**given, "authority": manifest.parent / "other" / "ca.crt"}
        )


def test_a_running_coordinator_is_found_by_its_folder_whatever_became_of_the_manifest(manifest):
    sealed(manifest)
    state = load_federation_file(manifest).state
    (manifest.parent / "tls").rename(manifest.parent / "tls.old")
    (manifest.parent / "recipe.toml").write_text("not toml")
    assert network_folder(manifest) == state
    manifest.write_text(manifest.read_text().replace('out = "run"\n', ""))
    with pytest.raises(FedkimError, match="broken TOML"):
        network_folder(manifest)


@pytest.mark.parametrize("out", ["3", '""', '"."', '".."'])
def test_the_run_has_a_folder_of_its_own(manifest, out):
    manifest.write_text(manifest.read_text().replace('out = "run"', f"out = {out}"))
    with pytest.raises(FedkimError, match=r"\[recipe\] out, found .*expected a folder of the run's own"):
        load_federation_file(manifest)


@pytest.mark.parametrize("host", ["10.0.0.6", "example.org", "a.fedkim.example.org", "ward.example.org"])
def test_a_certificate_for_other_addresses_is_told_before_anything_starts(host, manifest):
    sealed(manifest)
    make_certificates(manifest.parent / "ours", ["fedkim.example.org", "*.ward.example.org", "10.0.0.5"])
    text = manifest.read_text().replace("tls/", "ours/") + f'[network]\nhost = "{host}"\n'
    manifest.write_text(text)
    with pytest.raises(
        FedkimError, match=rf"\[tls\] certificate, found one that doesn't name {host}.*coordinator keys"
    ):
        start(load_federation_file(manifest), print)


def test_a_certificate_that_has_ended_or_is_none_is_told_before_anything_starts(manifest, monkeypatch):
    monkeypatch.setattr("fedkim.coordinator.certificates.DAYS", 0)
    sealed(manifest)
    with pytest.raises(FedkimError, match=r"\[tls\] certificate, found one that holds from .*Operations"):
        start(load_federation_file(manifest), print)
    (manifest.parent / "tls" / "server.pem").write_text("none")
    with pytest.raises(FedkimError, match=r"\[tls\] certificate, found no certificate in .*server.pem"):
        start(load_federation_file(manifest), print)


COUNTS = '{ "encoder.image" = 5, "decoder.lung_opacity" = 9 }'


def test_counts_by_component_are_those_of_the_sites_components(manifest):
    text = manifest.read_text()
    manifest.write_text(text.replace("max_examples = 9", f"max_examples = {COUNTS}", 1))
    assert load_federation_file(manifest).declared()["site-1"] == {"decoder.lung_opacity": 9, "encoder.image": 5}
    for wrong, message in [
        (COUNTS.replace("lung_opacity", "lung_opacty"), "'decoder.lung_opacty'; did you mean 'decoder.lung_opacity'"),
        (
            COUNTS.replace("}", ', "encoder.signal" = 5 }'),
            r"\[sites.site-1\] max_examples: unknown component 'encoder.signal'",
        ),
        ('{ "encoder.image" = 5 }', r"max_examples, found nothing for decoder.lung_opacity"),
    ]:
        manifest.write_text(text.replace("max_examples = 9", f"max_examples = {wrong}", 1))
        with pytest.raises(FedkimError, match=message):
            load_federation_file(manifest)


def test_this_machines_folders_may_differ_from_the_recipes_and_nothing_else(tmp_path):
    recipe = small("data.source=public", 'data.roots={rsna="rsna", ptbxl="ptbxl"}')
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    path = tmp_path / "federation.toml"

    def read(more):
        path.write_text(f'[recipe]\nfile = "recipe.toml"\n{more}')
        return load_federation_file(path)

    roots = '[public]\nroots = { rsna = "/data/rsna", ptbxl = "/data/ptbxl" }\n'
    file = read(f'[llm]\nname = "/models/m"\n{roots}')
    assert file.recipe.digest() == recipe.digest()
    assert (file.run_recipe.llm.name, file.run_recipe.data.roots["ptbxl"]) == ("/models/m", "/data/ptbxl")
    assert read(roots).run_recipe.digest() == recipe.digest()
    assert read('[public]\nroot = "/data/pack"\n').run_recipe.data.root == "/data/pack"
    for key in (
        "image_size = 32",
        "rho = 0.5",
        'source = "phantom"',
        'labels = "paper"',
        'split = "paper"',
        "typo = 1",
    ):
        with pytest.raises(FedkimError, match=rf"\[public\], found the key '{key.split()[0]}'.*have the sites approve"):
            read(f"[public]\n{key}\n")
    with pytest.raises(FedkimError, match=r"\[llm\], found the key 'micro_batch', expected nothing but name"):
        read("[llm]\nmicro_batch = 2\n")
    for sets in ('{ rsna = "a" }', '{ ptbxl = "a", rsna = "b" }', '{ rsna = "a", ptbxl = "b", covid = "c" }'):
        with pytest.raises(FedkimError, match=r"\[public\] roots, found .*, expected the recipe's sets.*rsna, ptbxl"):
            read(f"[public]\nroots = {sets}\n")


def test_adding_and_removing_leave_the_rest_as_it_was(manifest):
    before = manifest.read_text()
    key = manifest.parent / "more.key"
    line = make_site_keys(key)
    add_site(manifest, name="more", key=line, modalities=["signal"], tasks=["ecg_abnormal"], max_examples=5)
    assert list(load_federation_file(manifest).sites) == ["site-1", "site-2", "more"]
    remove_site(manifest, name="more")
    assert manifest.read_text().rstrip() == before.rstrip()
    remove_site(manifest, name="site-1")
    assert list(tomllib.loads(manifest.read_text())["sites"]) == ["site-2"]
    assert manifest.read_text().startswith("# ours")


HEADERS = ("[sites.'site-1']", '[ sites."site-1" ]', '  [sites."site-1"]', '[sites . "site-1"]  # the first')


@pytest.mark.parametrize("header", HEADERS)
def test_a_site_is_removed_however_its_table_is_written_and_the_next_one_stays(manifest, header):
    text = manifest.read_text().replace('[sites."site-1"]', header)
    text = text.replace('[sites."site-2"]', '# about the second\n  [sites."site-2"]')
    manifest.write_text(text)
    assert list(load_federation_file(manifest).sites) == ["site-1", "site-2"]
    remove_site(manifest, name="site-1")
    assert list(load_federation_file(manifest).sites) == ["site-2"]
    assert manifest.read_text().startswith("# ours")
    assert "# about the second" in manifest.read_text()


def test_a_site_that_cant_be_removed_without_its_neighbour_is_no_success(manifest):
    sites = tomllib.loads(manifest.read_text())["sites"]
    tables = ", ".join(
        f'"{name}" = {{ ' + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + " }"
        for name, table in sites.items()
    )
    text = f'sites = {{ {tables} }}\n[recipe]\nfile = "recipe.toml"\nout = "run"\n'
    manifest.write_text(text)
    with pytest.raises(FedkimError, match="by hand"):
        remove_site(manifest, name="site-1")
    assert manifest.read_text() == text


def test_a_change_that_wouldnt_be_understood_never_stands_in_the_manifest(manifest, monkeypatch):
    before = manifest.stat()
    line = make_site_keys(manifest.parent / "more.key")
    with pytest.raises(FedkimError, match=r"federation.toml: \[sites.more\]: unknown task 'ecg'"):
        add_site(manifest, name="more", key=line, modalities=["signal"], tasks=["ecg"], max_examples=5)
    after = manifest.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_manifest_behind_a_link_is_changed_where_it_lies(manifest):
    link = manifest.parent / "here.toml"
    link.symlink_to(manifest)
    remove_site(link, name="site-1")
    assert link.is_symlink()
    assert list(load_federation_file(manifest).sites) == ["site-2"]


def test_two_sites_never_share_a_key(manifest):
    key = str(manifest.parent / "site-1.key.pub")
    with pytest.raises(FedkimError, match="key of another site"):
        add_site(manifest, name="twin", key=key, modalities=["image"], tasks=["lung_opacity"], max_examples=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[reciep]\n", "did you mean 'recipe'"),
        ('[recipe]\nfile = "none.toml"\n', "no such file"),
        ("[recipe]\n", "a recipe's file"),
        ('[recipe]\nfile = "recipe.toml"\n[network]\nquorm = 2\n', "did you mean 'quorum'"),
        ('[recipe]\nfile = "recipe.toml"\n[network]\nport = 0\n', "1 to 65535"),
        ('[recipe]\nfile = "recipe.toml"\n[network]\nuploads = "int8"\n', "bfloat16"),
        (f'[recipe]\nfile = "recipe.toml"\n[network]\ndeadline = 1{"0" * 400}\n', r"\[network\] deadline, found 1000"),
        (f'[recipe]\nfile = "recipe.toml"\n[network]\nport = 1{"0" * 400}\n', r"\[network\] port, found 1000"),
        ('[recipe]\nfile = "recipe.toml"\n[tls]\nkey = "x"\n', "fedkim coordinator keys"),
        ('[recipe]\nfile = "recipe.toml"\n[sites.a]\ntasks = []\n', "no public_key"),
        ("not toml", "broken TOML"),
    ],
)
def test_mistakes_in_a_manifest_are_told_with_a_remedy(text, message, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    path = tmp_path / "federation.toml"
    path.write_text(text)
    with pytest.raises(FedkimError, match=message):
        load_federation_file(path)


SITE = (
    '[site]\nname = "a"\n[data]\nsource = "recipe"\nshard = "site-1"\n'
    '[policy]\nrecipe = "recipe.toml"\nrecipe_digest = "{digest}"\ntasks = ["lung_opacity"]\nmodalities = ["image"]\n'
)


def test_a_recipe_that_changed_after_its_approval_is_refused(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(SITE.format(digest=RECIPE.digest()))
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    assert load_participant(path).recipe().digest() == RECIPE.digest()
    (tmp_path / "recipe.toml").write_text(small("federation.rounds=9").to_toml())
    with pytest.raises(FedkimError, match="as approved"):
        load_participant(path).recipe()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[coordinator]\naddress = "hospital.example.org:8000"\nkey = "recipe.toml"\n', "there is no plain mode"),
        ('[coordinator]\naddress = "127.0.0.1"\n', "host:port"),
        ('[coordinator]\naddress = "hospital.example.org:²"\n', "host:port"),
        (f'[coordinator]\naddress = "hospital.example.org:{"9" * 5000}"\n', "host:port"),
        ('[coordinator]\naddress = "::1"\n', "an IPv6 address in brackets"),
        ('[coordinator]\naddress = "[]:8000"\n', "host:port"),
        ('[coordinator]\naddress = "127.0.0.1:1"\nkey = "none"\ncertificate = "none"\n', "no such file"),
        ("[polcy]\n", "did you mean 'policy'"),
    ],
)
def test_mistakes_in_a_sites_file_are_told(more, message, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    path = tmp_path / "site.toml"
    path.write_text(SITE.format(digest="x") + more)
    with pytest.raises(FedkimError, match=message):
        load_participant(path)


def test_an_address_is_taken_apart_as_it_was_joined():
    for host in ("fedkim.example.org", "10.0.0.5", "::1", "2001:db8::7"):
        assert split_address(joined_address(host, 8000), "address") == (host, 8000)


def test_a_path_that_the_system_takes_for_none_is_told():
    with pytest.raises(FedkimError, match=r"federation file, found the path 'a\\x00b.toml'"):
        load_federation_file("a\0b.toml")


def test_private_keys_are_their_owners_alone_and_never_overwritten(tmp_path):
    key = tmp_path / "a.key"
    line = make_site_keys(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert line.startswith("ecdsa-sha2-nistp384 ")
    before = key.read_bytes()
    with pytest.raises(FedkimError, match="one already"):
        make_site_keys(key)
    assert key.read_bytes() == before


def test_certificates_name_the_hosts_and_chain_to_the_authority(tmp_path):
    make_certificates(tmp_path / "tls", ["127.0.0.1", "fedkim.example.org"])
    server = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((tmp_path / "tls" / "ca.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fedkim.example.org", "localhost"]
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert stat.S_IMODE((tmp_path / "tls" / "server.key").stat().st_mode) == 0o600
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("host", ["", "klinik-köln.example", "a b", "x" * 64])
def test_a_host_that_no_certificate_can_name_is_refused(tmp_path, host):
    with pytest.raises(FedkimError, match=r"--host.*a host's name or address") as refused:
        make_certificates(tmp_path / "tls", [host])
    assert ("beyond ASCII" in str(refused.value)) == (not host.isascii())
    make_certificates(tmp_path / "long", [".".join(["part"] * 20)])  # longer than a certificate's common name may be


def test_the_app_that_is_shipped_holds_imports_alone_and_asks_for_no_package(tmp_path):
    folder = write_app(tmp_path / "app")
    sources = {p.name: p.read_text() for p in folder.rglob("*.py")}
    lines = [line for text in sources.values() for line in text.splitlines() if line]
    assert all(line.startswith(("from fedkim.", "app = ")) for line in lines)
    assert "dependencies = []" in (folder / "pyproject.toml").read_text()


def test_flowers_programs_call_nobody_elses_server(tmp_path):
    environment = flower_environment(tmp_path / "home")
    assert (environment["FLWR_TELEMETRY_ENABLED"], environment["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
    assert os.path.isabs(environment["FLWR_HOME"])


def test_an_untested_version_of_flower_is_refused(monkeypatch):
    monkeypatch.setattr("fedkim.engines.flower.processes.metadata.version", lambda name: "1.29.0")
    with pytest.raises(FedkimError, match=r"found 1\.29\.0, expected from 1\.41"):
        program("flwr")


def test_a_federation_that_never_began_has_a_status(manifest):
    found = status_of(manifest)
    assert (found["state"], found["round"], found["rounds"]) == ("not-started", 0, RECIPE.federation.rounds)
    assert "site-1: 0 rounds" in status_text(found)


def test_a_round_that_was_answered_twice_is_one_round_whose_bytes_went_twice(manifest):
    events = Events(load_federation_file(manifest).state / "network.jsonl")
    events.path.parent.mkdir()
    for number in (1, 2, 2):
        events.append("reply", round=number, site="site-1", sent=100, received=10, seconds=1.0)
    assert {key: status_of(manifest)["sites"]["site-1"][key] for key in ("rounds", "sent", "received")} == {
        "rounds": 2, "sent": 300, "received": 30,
    }  # fmt: skip


def test_a_process_that_ended_lives_no_more_even_before_it_is_collected():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert lives(os.getpid())
    assert not lives(child.pid)
    child.wait()
    assert not lives(child.pid)


def test_the_status_of_a_runs_folder_counts_its_committed_rounds(tmp_path):
    folder = tmp_path / "run"
    list(federate(small("federation.rounds=2"), out=folder))
    history = RunStore(folder).history()
    found = status_of(folder)
    assert (found["state"], found["engine"], found["round"], found["rounds"]) == ("stopped", "in-process", 2, 2)
    for name, site in found["sites"].items():
        given = [entry["sites"][name] for entry in history]
        assert site["rounds"] == len(given) == 2
        assert site["received"] == sum(one["bytes_sent"] for one in given)
        assert site["sent"] == sum(one["bytes_received"] for one in given)
    remember_declared(folder, {"ward": {"encoder.image": 1}})
    assert status_of(folder)["engine"] == "flower"
    newest = folder / "rounds" / "round-0002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = status_of(folder)
    assert (found["round"], found["rounds"]) == (1, 2)
    assert "round 1 of 2 committed\n  what came after round 1 is damaged" in status_text(found)
    with RunStore.open(folder, small("federation.rounds=2")):  # who works there knows, and is asked every two seconds
        assert status_of(folder)["round"] == 2
    (folder / "rounds" / "round-0001.safetensors").unlink()
    assert "round 0 of 2 committed\n  every stored round is damaged" in status_text(status_of(folder))
