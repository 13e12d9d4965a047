"""Keys and certificates as files: whole, or not there at all."""

import errno

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator.certificates import make_certificates
from fedkim.errors import FedkimError
from fedkim.site import keys
from fedkim.site.keys import make_site_keys


@pytest.mark.parametrize("taken", ["a.key", "a.key.pub"])
def test_half_a_pair_that_is_in_the_way_is_told_before_the_other_half_is_made(taken, tmp_path):
    (tmp_path / taken).write_text("somebody's")
    with pytest.raises(FedkimError, match=rf"{taken}, found one already"):
        make_site_keys(tmp_path / "a.key")
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_a_file_where_the_folder_should_be_is_told_as_what_it_is(tmp_path):
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(FedkimError, match=r"(?i)(file exists|not a directory)"):
        make_site_keys(tmp_path / "keys" / "a.key")


def test_a_certificate_that_is_in_the_way_leaves_no_other_server_key(tmp_path):
    (tmp_path / "server.pem").write_text("the one that sites trust")
    with pytest.raises(FedkimError, match=r"server.pem, found one already"):
        make_certificates(tmp_path, ["127.0.0.1"])
    assert [path.name for path in tmp_path.iterdir()] == ["server.pem"]


def test_a_full_disk_leaves_nothing_that_would_be_in_the_way_of_the_next_try(tmp_path, monkeypatch):
    opened = keys.os.fdopen

    def full(descriptor, mode):
        file = opened(descriptor, mode)
        if (tmp_path / "a.key.pub").exists():  # the second of the pair
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return file

    with monkeypatch.context() as during:
        during.setattr(keys.os, "fdopen", full)
        with pytest.raises(FedkimError, match=r"a.key.pub, found No space left"):
            make_site_keys(tmp_path / "a.key")
    assert list(tmp_path.iterdir()) == []
    assert make_site_keys(tmp_path / "a.key").startswith("ecdsa-")
