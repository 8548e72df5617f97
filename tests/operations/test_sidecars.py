"""The description beside a file comes from outside: what it says is taken over only where it makes sense."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups_app import config
from backups_app.errors import BadBackup, StorageProblem
from backups_app.models import Backup
from backups_app.operations import sidecars
from backups_app.systems.vault import LocalLocation, Stored
from tests.operations.site import Site
from tests.operations.test_imports import forget_everything

NAME = "qrdb_20250101_030405.sql"
FOUND = Stored(11, "0" * 64)
TABLE = {"rows": 3, "checksum": "1"}
FACTS: dict[str, Any] = {
    "format": 1,
    "name": NAME,
    "origin": "manual",
    "created_at": "2025-01-01T03:04:05+00:00",
    "created_by": "somebody",
    "size": FOUND.size,
    "sha256": FOUND.sha256,
    "database": "qrdb",
    "manifest": {
        "format": 1,
        "taken_at": "2025-01-01T03:04:05+00:00",
        "revision": "8d13a4dfeb1d",
        "tables": {"public.qr_codes": TABLE},
        "large_objects": None,
    },
    "proven_at": "2025-01-02T03:04:05+00:00",
    "proof": {"seconds": 1.5, "tables": 1, "rows": 3},
}


def facts(tmp_path: Path, told: object, **more: Any) -> dict[str, Any] | None:
    """What is taken over from a description that says ``told``."""
    (tmp_path / f"{NAME}.json").write_text(told if isinstance(told, str) else json.dumps(told, **more))
    return sidecars.facts_beside(LocalLocation("working", tmp_path), NAME, FOUND)


def with_manifest(**changes: Any) -> dict[str, Any]:
    return FACTS | {"manifest": FACTS["manifest"] | changes}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_makes_sense_is_taken_over(tmp_path: Path) -> None:
    found = facts(tmp_path, FACTS | {"is_pinned": True, "pin_reason": "why", "warnings": ["odd"]})

    assert found is not None
    assert (found["rows"], found["manifest"]) == (3, FACTS["manifest"])
    assert (found["is_pinned"], found["pin_reason"], found["warnings"]) == (True, "why", ["odd"])
    assert found["proof"] == FACTS["proof"]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[" * 100_000, id="deep nesting"),
        pytest.param([FACTS], id="a list"),
        pytest.param(FACTS | {"created_by": "\ud800"}, id="half a character"),
        pytest.param(FACTS | {"format": 2}, id="another format"),
        pytest.param(FACTS | {"origin": "elsewhere"}, id="unknown origin"),
        pytest.param(FACTS | {"origin": ["manual"]}, id="a list for an origin"),
        pytest.param(FACTS | {"database": ["qrdb"]}, id="a list for a text"),
        pytest.param(FACTS | {"created_by": 7}, id="a number for a text"),
        pytest.param(FACTS | {"created_at": 1735700645}, id="a number for a time"),
        pytest.param(FACTS | {"created_at": "yesterday"}, id="no time"),
        pytest.param(FACTS | {"created_at": "2025-01-01T03:04:05"}, id="a time without zone"),
        pytest.param(FACTS | {"is_api_stopped": "no"}, id="a text for a flag"),
        pytest.param(FACTS | {"created_at": "9999-12-31T23:59:59+00:00"}, id="the end of time"),
        pytest.param(FACTS | {"created_at": "0001-01-01T00:00:00+02:00"}, id="before the beginning of time"),
        pytest.param(FACTS | {"is_pinned": 1}, id="a number for a flag"),
        pytest.param(FACTS | {"warnings": "odd"}, id="a text for a list"),
        pytest.param(FACTS | {"warnings": [{}]}, id="a list of other things"),
        pytest.param(FACTS | {"proof": [["seconds", 1]]}, id="pairs for a proof"),
        pytest.param(FACTS | {"proof": {"seconds": "1"}}, id="a text for seconds"),
        pytest.param(FACTS | {"proof": {"seconds": True}}, id="true for seconds"),
        pytest.param(FACTS | {"proof": {"is_measure": 1}}, id="a number for a flag of the proof"),
        pytest.param(FACTS | {"proof": {"rows": -1}}, id="rows below zero in the proof"),
        pytest.param(FACTS | {"proof": {"rows": deep(500)}}, id="nesting in the proof"),
        pytest.param(FACTS | {"manifest": [1]}, id="a list for a manifest"),
        pytest.param(with_manifest(tables=[TABLE]), id="a list for tables"),
        pytest.param(with_manifest(tables={"a.b": [3, "1"]}), id="a list for a table"),
        pytest.param(with_manifest(tables={"a.b": {"rows": "3", "checksum": "1"}}), id="a text for rows"),
        pytest.param(with_manifest(tables={"a.b": {"rows": True, "checksum": "1"}}), id="true for rows"),
        pytest.param(with_manifest(tables={"a.b": {"rows": -3, "checksum": "1"}}), id="rows below zero"),
        pytest.param(with_manifest(tables={"a.b": {"rows": 3, "checksum": 1}}), id="a number for a sum"),
        pytest.param(
            with_manifest(tables={key: {"rows": 2**62, "checksum": "1"} for key in ("a.b", "a.c", "a.d")}),
            id="too many rows in all",
        ),
        pytest.param(with_manifest(large_objects={"rows": -1, "checksum": ""}), id="objects below zero"),
        pytest.param(with_manifest(large_objects=[1]), id="a list for objects"),
        pytest.param(with_manifest(revision=7), id="a number for a revision"),
        pytest.param(with_manifest(taken_at="2025-13-45T00:00:00+00:00"), id="no time in the manifest"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(tmp_path: Path, told: object) -> None:
    with pytest.raises(BadBackup, match=rf"^The description beside {NAME} cannot be understood\.$"):
        facts(tmp_path, told)


@pytest.mark.parametrize("told", [{"size": "11"}, {"size": 12}, {"sha256": None}, {"name": ["x"]}])
def test_one_of_another_file_is_one_sentence(tmp_path: Path, told: dict[str, Any]) -> None:
    with pytest.raises(BadBackup, match="belongs to another file"):
        facts(tmp_path, FACTS | told)


def test_one_of_more_than_4_mb_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BadBackup, match="is too large to be a backup's description"):
        facts(tmp_path, FACTS | {"more": "x" * 4 * 1024 * 1024})


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text(json.dumps(FACTS))
    (tmp_path / f"{NAME}.json").symlink_to(tmp_path / "outside")

    with pytest.raises(StorageProblem, match=rf"{NAME}\.json cannot be used: it is a symbolic link"):
        sidecars.facts_beside(LocalLocation("working", tmp_path), NAME, FOUND)


def test_a_proof_without_anything_to_compare_with_comes_back_as_such(tmp_path: Path) -> None:
    proof = FACTS["proof"] | {"is_measure": True}

    found = facts(tmp_path, FACTS | {"proof": proof})

    assert found is not None
    assert found["proof"] == proof


def test_a_proof_of_a_time_that_lies_ahead_is_none(tmp_path: Path) -> None:
    found = facts(tmp_path, FACTS | {"proven_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()})

    assert found is not None
    assert (found["proven_at"], found["proof"]) == (None, {})


def test_pin_warnings_and_damage_come_back_with_an_import(site: Site) -> None:
    pinned, bad = site.backup(), site.backup()
    pinned.pin("before the upgrade")
    assert sidecars.write_promptly(pinned)
    Backup.objects.filter(pk=bad.pk).update(warnings=["public.qr_codes has 1 rows."])
    bad.refresh_from_db()
    bad.mark_damaged("Its rows are not those of its manifest.")
    assert sidecars.write_promptly(bad)
    forget_everything()

    site.import_found()

    again = Backup.objects.get(name=pinned.name)
    assert (again.is_pinned, again.pin_reason, again.state) == (True, "before the upgrade", "validated")
    again = Backup.objects.get(name=bad.name)
    assert (again.state, again.validated_at) == ("damaged", None)
    assert (again.damage, again.warnings) == (bad.damage, bad.warnings)


def test_a_bad_description_keeps_neither_the_other_files_out_nor_its_own_from_being_doubted(
    site: Site,
) -> None:
    bad, good = site.backup(), site.backup()
    for folder in (site.working, site.second):
        (folder / f"{bad.name}.json").write_text('{"format": 1, "name": 7}')
    forget_everything()

    operation = site.import_found()

    assert operation.result["adopted"] == sorted([bad.name, good.name])
    adopted = Backup.objects.get(name=bad.name)
    assert (adopted.state, adopted.manifest) == ("unvalidated", None)
    assert "It may be damaged: prove it before you rely on it." in adopted.warnings[0]


def test_where_a_description_cannot_be_read_now_its_file_waits_for_the_next_import(
    one_folder: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = one_folder.backup()
    before = (one_folder.working / f"{backup.name}.json").read_text()
    forget_everything()
    with monkeypatch.context() as patch:

        def break_off(*_words: object) -> None:
            raise StorageProblem("The connection broke off.")

        patch.setattr(LocalLocation, "read_text", break_off)
        first = one_folder.import_found()
    second = one_folder.import_found()

    assert (first.result["unread"], first.result["adopted"]) == ([backup.name], [])
    assert (one_folder.working / f"{backup.name}.json").read_text() == before
    assert second.result["adopted"] == [backup.name]
    assert Backup.objects.get().manifest == backup.manifest


def test_what_a_validation_finds_stands_in_the_description(one_folder: Site) -> None:
    backup = one_folder.backup()
    Backup.objects.filter(pk=backup.pk).update(manifest={"format": 2})

    assert one_folder.validate(backup).state == "failed"

    told = json.loads((one_folder.working / f"{backup.name}.json").read_text())
    assert "manifest" in told["damage"]
    assert [one.alias for one in config.locations()] == ["working"]
