"""A backup that was damaged for want of an intact copy is sound again when one is found; no other is."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups_app.errors import BadBackup
from backups_app.models import Backup
from backups_app.operations import staging
from tests.operations.site import Site


def move_away(site: Site, backup: Backup) -> Path:
    return (site.working / backup.name).rename(site.second / backup.name)


def move_back(site: Site, backup: Backup) -> None:
    (site.second / backup.name).rename(site.working / backup.name)


@pytest.mark.parametrize("look", ["check_copies", "validate", "prove", "restore"])
def test_a_file_that_is_put_back_makes_its_backup_what_it_was(one_folder: Site, look: str) -> None:
    backup = one_folder.backup()
    one_folder.prove(backup)
    proven_at = Backup.objects.get().proven_at
    move_away(one_folder, backup)

    if look == "check_copies":
        one_folder.check_copies()
    else:
        getattr(one_folder, look)(backup)
    lost = Backup.objects.get()
    move_back(one_folder, backup)
    one_folder.check_copies()
    found = Backup.objects.get()

    assert (lost.state, found.state) == ("damaged", "proven")
    assert (found.proven_at, found.damage) == (proven_at, "")
    assert list(Backup.objects.validated()) == [found]


def test_what_a_proof_found_bad_stays_so_when_its_file_was_away(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    with monkeypatch.context() as patch:

        def differ(*_words: object, **_more: object) -> None:
            raise BadBackup("The restored rows are not those of its manifest.")

        patch.setattr(staging, "_proven", differ)
        one_folder.prove(backup)
    move_away(one_folder, backup)
    one_folder.check_copies()
    move_back(one_folder, backup)

    one_folder.check_copies()

    assert Backup.objects.get().damage == "The restored rows are not those of its manifest."
    assert list(Backup.objects.validated()) == []
