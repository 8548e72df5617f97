"""Files that no record knows are judged and adopted; a lost catalogue is rebuilt from what lies there."""

from __future__ import annotations

import errno
import json
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from backups_app import config, tasks
from backups_app.errors import Stalled
from backups_app.models import Backup, BackupCopy, Operation, RestoreEvent, Step
from backups_app.operations import imports, places, uploads
from backups_app.systems import vault
from backups_app.systems.postgres import clients
from backups_app.systems.postgres.connections import environment
from backups_app.systems.vault import LocalLocation, streams
from tests.conftest import url_of
from tests.operations.site import WHO, Site, change_bytes

OLD = "qrdb_20250101_030405.sql"
SAFETY = "qrdb_20250102_030405_before_restore.sql"


def old_dump(site: Site, file: Path, *more: str, database: str = "qrdb", major: int = 16) -> Path:
    """A file as the old scripts made it."""
    program = clients.for_dump(major).path
    subprocess.run(
        [program, "--format=custom", "--no-owner", "--no-privileges", "--no-tablespaces", *more, "-f", file],
        env=environment(site.server.at(database), "tests"),
        check=True,
    )
    return file


def states(backup: Backup) -> dict[str, str]:
    return dict(backup.copies.values_list("location", "state"))


def forget_everything() -> None:
    """The site's own database was lost: its rows are gone, as no code of ours can make them go."""
    for model in (Step, RestoreEvent, BackupCopy):
        model.objects.all()._raw_delete("default")
    Operation.objects.update(backup=None)
    Backup.objects.all()._raw_delete("default")
    Operation.objects.all()._raw_delete("default")


def facts(backup: Backup) -> dict[str, Any]:
    names = "name origin created_at created_by size sha256 database revision manifest rows proven_at proof"
    return {name: getattr(backup, name) for name in names.split()} | {"copies": states(backup)}


def test_a_lost_catalogue_is_rebuilt_with_all_that_was_known(site: Site) -> None:
    proven, other = site.backup(), site.backup()
    site.prove(proven)
    before = [facts(backup) for backup in Backup.objects.order_by("name")]
    (site.second / other.name).unlink()
    forget_everything()

    operation = site.import_found()

    assert operation.state == "succeeded", operation.error
    assert operation.result["adopted"] == sorted([proven.name, other.name])
    after = [facts(backup) for backup in Backup.objects.order_by("name")]
    before[-1]["copies"]["second"] = "pending"
    assert after == before
    assert {backup.state for backup in Backup.objects.all()} == {"proven", "validated"}
    assert site.check_copies(only_pending=True).result["repaired"] == [f"{other.name} in second"]
    assert site.restore(Backup.objects.get(name=other.name)).state == "succeeded"


def test_of_two_different_files_of_one_name_one_is_adopted_and_the_other_left_for_good(
    site: Site, settings: Settings
) -> None:
    settings.BACKUP_KEEP = "1"
    old_dump(site, site.working / OLD)
    old_dump(site, site.second / OLD, "--compress=0")
    theirs = (site.second / OLD).read_bytes()

    operation = site.import_found()
    copy = Backup.objects.get(name=OLD).copies.get(location="second")
    Backup.objects.update(imported_at=timezone.now() - timedelta(days=8))
    site.backup()
    site.backup()

    assert operation.result["adopted"] == [OLD]
    assert copy.state == "pending"
    assert Backup.objects.get(name=OLD).removed_at is not None
    assert not (site.working / OLD).exists()
    assert (site.second / OLD).read_bytes() == theirs


def test_files_of_the_old_scripts_are_adopted_and_can_be_validated_proven_and_restored(site: Site) -> None:
    old_dump(site, site.second / OLD)
    old_dump(site, site.working / SAFETY, "--compress=0")
    live = site.rows()

    operation = site.import_found()

    assert operation.result["adopted"] == [OLD, SAFETY]
    backup = Backup.objects.get(name=OLD)
    assert (backup.origin, backup.state, backup.manifest) == ("imported", "validated", None)
    assert backup.created_at == datetime(2025, 1, 1, 3, 4, 5, tzinfo=UTC)
    assert (backup.revision, backup.database) == ("8d13a4dfeb1d", "qrdb")
    assert backup.server_version.startswith("16.")
    assert backup.operation == operation
    assert states(backup) == {"working": "pending", "second": "stored"}
    assert json.loads((site.second / f"{OLD}.json").read_text())["sha256"] == backup.sha256
    assert site.validate(backup).state == "succeeded"
    site.execute("DELETE FROM scan_logs")
    safety = Backup.objects.get(name=SAFETY)
    assert site.restore(safety).state == "succeeded"
    assert site.rows() == live
    assert site.prove(backup).state == "succeeded"
    backup.refresh_from_db()
    assert (backup.state, backup.rows) == ("proven", 1337)


def test_a_dry_run_says_what_would_be_adopted_and_changes_nothing(site: Site) -> None:
    old_dump(site, site.working / OLD)
    (site.working / SAFETY).write_bytes(b"no archive")
    before = site.files()

    operation = site.import_found(dry_run=True)

    assert operation.result["adoptable"] == [OLD]
    assert operation.result["adopted"] == []
    assert [refused["name"] for refused in operation.result["refused"]] == [SAFETY]
    assert not Backup.objects.exists()
    assert site.files() == before


def test_what_is_no_whole_backup_of_ours_is_left_alone_with_a_sentence(site: Site) -> None:
    whole = old_dump(site, site.working / OLD).read_bytes()
    files = {
        "qrdb_20250103_000001.sql": (b"", "is empty."),
        "qrdb_20250103_000002.sql": (b"-- PostgreSQL database dump\n", "is a plain SQL script"),
        "qrdb_20250103_000003.sql": (whole[:-2000], "is damaged: it cannot be read to its end."),
        "qrdb_20250103_000004.sql": (b"\x7fELF" * 100, "is not a PostgreSQL archive"),
        "qrdb_20250103_000005.sql": (whole[:7], "is cut short"),
    }
    for name, (content, _sentence) in files.items():
        (site.working / name).write_bytes(content)
    foreign = {"notes.txt": b"mine", "qrdb.sql": b"x", "qradmin_site_20250101_000000.dump": b"x"}
    for name, content in foreign.items():
        (site.working / name).write_bytes(content)

    operation = site.import_found()

    assert operation.state == "succeeded"
    assert operation.result["adopted"] == [OLD]
    told = {refused["name"]: refused["why"] for refused in operation.result["refused"]}
    assert set(told) == set(files)
    for name, (content, sentence) in files.items():
        assert sentence in told[name]
        assert (site.working / name).read_bytes() == content
    assert {name: (site.working / name).read_bytes() for name in foreign} == foreign


def test_a_backup_of_something_else_is_left_alone(site: Site) -> None:
    with site.connected("postgres") as connection:
        connection.execute("CREATE DATABASE other")
    with site.connected("other") as connection:
        connection.execute("CREATE TABLE qr_codes AS SELECT 1 AS id")
    old_dump(site, site.working / OLD, database="other")

    operation = site.import_found()

    assert "holds no rows of the table alembic_version" in operation.result["refused"][0]["why"]


def test_an_archive_that_only_a_newer_client_reads_is_adopted_and_its_restore_says_why_not(
    one_folder: Site,
) -> None:
    old_dump(one_folder, one_folder.working / OLD, major=18)

    assert one_folder.import_found().result["adopted"] == [OLD]
    restored = one_folder.restore(Backup.objects.get())

    assert (restored.state, restored.blame) == ("failed", "environment")
    assert restored.error.startswith(
        f"{OLD} was made by a newer pg_dump than PostgreSQL 16 can be restored with:"
        " restore it on a server of the version that made it."
    )


def test_an_owner_with_blanks_and_quotes_in_its_name_hinders_nothing(
    site: Site, superuser: Any, settings: Settings
) -> None:
    plain, odd = site.server, replace(site.server, user='an odd "owner')
    superuser.execute(f'ALTER ROLE {plain.user} RENAME TO "an odd ""owner"')
    try:
        site.server, settings.MANAGED_DATABASE_URL = odd, url_of(odd)
        backup = site.backup()
        forget_everything()

        operation = site.import_found()

        assert operation.result["adopted"] == [backup.name]
        restored = site.restore(Backup.objects.get())
        assert restored.state == "succeeded", restored.error
    finally:
        superuser.execute(f'ALTER ROLE "an odd ""owner" RENAME TO {plain.user}')


def test_a_file_named_as_ours_that_holds_another_database_is_adopted_with_a_warning(
    site: Site, settings: Settings
) -> None:
    old_dump(site, site.working / OLD.replace("qrdb", "qrtest"))
    settings.MANAGED_DATABASE_URL = settings.MANAGED_DATABASE_URL.replace("/qrdb", "/qrtest")

    site.import_found()

    assert Backup.objects.get().warnings == ["It was taken from the database qrdb, not from qrtest."]


def test_a_backup_of_another_system_of_the_same_kind_is_left_alone(site: Site, settings: Settings) -> None:
    old_dump(site, site.working / OLD)
    settings.MANAGED_DATABASE_URL = settings.MANAGED_DATABASE_URL.replace("/qrdb", "/qrtest")

    operation = site.import_found()

    assert operation.result["refused"][0]["why"] == (
        f"{OLD} is a backup of the database qrdb, not of qrtest: upload it if it is wanted here."
    )


@pytest.mark.parametrize(
    "text",
    ["{}", "no JSON", '{"format": 1}', '{"format": 2}', "[]", "\udcff", "[" * 100_000],
    ids=["empty", "no JSON", "no facts", "newer", "a list", "no UTF-8", "deep"],
)
def test_a_description_that_cannot_be_understood_does_not_keep_a_file_out(site: Site, text: str) -> None:
    old_dump(site, site.working / OLD)
    (site.working / f"{OLD}.json").write_bytes(text.encode(errors="surrogateescape"))

    operation = site.import_found()

    assert operation.result["adopted"] == [OLD]
    assert Backup.objects.get(name=OLD).manifest is None


@pytest.mark.parametrize(
    "told",
    [
        {"created_by": "\ud800"},
        {"created_by": "a\0b"},
        {"created_at": "0001-01-01T00:00:00+14:00"},
        {"proven_at": "2026-01-01T00:00:00"},
        {"proof": {"seconds": float("inf")}},
        {"rows": 10**30},
    ],
    ids=lambda told: next(iter(told)),
)
def test_a_description_of_this_file_that_no_record_could_hold_is_left_aside(
    site: Site, told: dict[str, Any]
) -> None:
    backup, other = site.backup(), site.backup()
    for folder in (site.working, site.second):
        sidecar = folder / f"{backup.name}.json"
        facts = json.loads(sidecar.read_text())
        for table in facts["manifest"]["tables"].values():
            table["rows"] = told.get("rows", table["rows"])
        sidecar.write_text(json.dumps(facts | told))
    forget_everything()

    operation = site.import_found()

    assert operation.state == "succeeded", operation.error
    assert operation.result["adopted"] == sorted([backup.name, other.name])
    adopted = Backup.objects.get(name=backup.name)
    assert (adopted.origin, adopted.manifest) == ("imported", None)


def test_a_description_that_does_not_fit_its_file_is_said_and_the_file_is_judged_by_itself(
    site: Site,
) -> None:
    backup = site.backup()
    forget_everything()
    for folder in (site.working, site.second):
        change_bytes(folder / backup.name, lambda data: data.__setitem__(60, data[60] ^ 1))
    old_dump(site, site.working / "another").replace(site.working / backup.name)
    (site.second / backup.name).unlink()

    operation = site.import_found()

    adopted = Backup.objects.get()
    assert operation.steps.filter(what__contains="belongs to another file", level="warning").exists()
    assert (adopted.state, adopted.manifest) == ("unvalidated", None)
    assert "It may be damaged: prove it" in adopted.warnings[0]
    assert site.prove(adopted).state == "succeeded"


def test_the_copy_that_is_what_its_description_says_is_preferred(site: Site) -> None:
    backup = site.backup()
    forget_everything()
    old_dump(site, site.working / "another").replace(site.working / backup.name)

    site.import_found()

    adopted = Backup.objects.get()
    assert (adopted.sha256, adopted.state) == (backup.sha256, "validated")
    assert states(adopted) == {"working": "corrupt", "second": "stored"}
    assert site.check_copies().result["repaired"] == [f"{backup.name} in working"]


def test_a_file_that_was_removed_and_put_back_is_in_the_list_again(site: Site) -> None:
    backup = site.backup()
    whole = (site.working / backup.name).read_bytes()
    for folder in (site.working, site.second):
        (folder / backup.name).unlink()
    backup.mark_removed("a clean-up")
    (site.working / backup.name).write_bytes(whole + b"x")
    assert "is not the backup of this name" in site.import_found().result["refused"][0]["why"]
    (site.working / backup.name).write_bytes(whole)

    operation = site.import_found()

    backup.refresh_from_db()
    assert operation.result["adopted"] == [backup.name]
    assert backup.is_present
    assert site.restore(backup).state == "succeeded"


@pytest.mark.parametrize("was_known", [False, True], ids=["unknown", "removed"])
def test_an_import_that_dies_right_after_its_record_has_adopted_a_whole_backup(
    site: Site, broken: Any, was_known: bool
) -> None:
    backup = site.backup()
    (site.second / backup.name).unlink()
    if was_known:
        backup.mark_removed("a clean-up")
        backup.copies.update(state="removed", checked_at=timezone.now())
    else:
        forget_everything()
    broken(imports, "_record_copies", KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        site.import_found()

    adopted = Backup.objects.present().get()
    assert states(adopted) == {"working": "stored", "second": "pending"}
    assert site.validate(adopted).state == "succeeded"


def test_what_is_known_already_is_not_looked_at(site: Site) -> None:
    site.backup()

    operation = site.import_found()

    assert operation.result["adopted"] == operation.result["refused"] == []
    assert imports.look() == imports.Look([], [])


def test_a_location_that_is_down_does_not_keep_the_others_from_being_imported(site: Site) -> None:
    old_dump(site, site.working / OLD)
    site.second.rmdir()

    operation = site.import_found()

    assert operation.result["adopted"] == [OLD]
    assert operation.result["unreachable"] == ["second"]
    assert [one.name for one in imports.look().candidates] == []
    assert "does not exist" in imports.look().troubles[0]


@pytest.mark.parametrize("way", ["digest", "names"])
def test_a_location_that_hangs_ends_with_a_sentence_and_holds_up_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    old_dump(site, site.working / OLD)
    (site.second / SAFETY).write_bytes(b"PGDMP")
    real, over = getattr(LocalLocation, way), threading.Event()

    def hang(location: LocalLocation, *words: Any, **more: Any) -> Any:
        if location.alias == "second":
            over.wait(20)
        return real(location, *words, **more)

    monkeypatch.setattr(LocalLocation, way, hang)
    monkeypatch.setattr(imports, "STALLED_SECONDS", 0.3)
    monkeypatch.setattr(places, "LONGEST_LOOK_SECONDS", 0.3)

    operation = site.import_found()
    over.set()

    told = f"second ({site.second}) " + {
        "digest": f"has given no byte of {SAFETY} for 0.3 seconds.",
        "names": "did not answer in time.",
    }.get(way, "")
    assert operation.result["adopted"] == [OLD]
    assert operation.steps.filter(what__endswith=told, level="warning").exists()
    assert operation.result["unread"] == ([SAFETY] if way == "digest" else [])


def test_where_nothing_moves_for_too_long_the_next_file_is_judged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_dump(site, site.working / OLD)
    old_dump(site, site.working / SAFETY)
    real = imports.adoption.judge

    def judge(journal: Any, path: Path) -> Any:
        if path.name == OLD:
            raise Stalled("Nothing moved.")
        return real(journal, path)

    monkeypatch.setattr(imports.adoption, "judge", judge)

    operation = site.import_found()

    assert (operation.result["adopted"], operation.result["unread"]) == ([SAFETY], [OLD])


def test_a_link_and_a_file_that_may_not_be_read_have_sentences_of_their_own(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = old_dump(site, tmp_path / "outside")
    (site.working / SAFETY).symlink_to(outside)
    closed = old_dump(site, site.working / OLD)
    real = streams.open_to_read

    def open_to_read(path: Path) -> Any:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(streams, "open_to_read", open_to_read)

    operation = site.import_found()

    why = f"{SAFETY} in working is a symbolic link, or no file at all: it is never followed."
    assert operation.result["refused"] == [{"name": SAFETY, "why": why}]
    assert operation.result["unread"] == [OLD]
    told = f"{OLD} could not be judged now: The file {closed} cannot be used: permission denied"
    assert operation.steps.filter(what__startswith=told).exists()
    assert (site.working / SAFETY).is_symlink()


def test_a_file_from_the_future_is_not_the_newest_for_ever(site: Site) -> None:
    old_dump(site, site.working / "qrdb_20990101_000000.sql")

    site.import_found()
    taken = site.backup()

    ahead = Backup.objects.get(name="qrdb_20990101_000000.sql")
    assert "bears a time in the future, 2099-01-01 00:00 UTC" in ahead.warnings[0]
    assert Backup.objects.taken_by(timezone.now()).first() == taken


def test_a_file_that_appears_while_its_backup_is_recorded_is_not_adopted_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_dump(site, site.working / OLD)
    real = imports.adoption.insist_on_our_database

    def meanwhile(*arguments: Any) -> None:
        Backup.objects.create(
            name=OLD, origin="manual", created_at=datetime(2025, 1, 1, tzinfo=UTC), size=1, sha256="0" * 64
        )
        real(*arguments)

    monkeypatch.setattr(imports.adoption, "insist_on_our_database", meanwhile)

    operation = site.import_found()

    assert operation.state == "succeeded"
    assert operation.result["adopted"] == []
    assert Backup.objects.count() == 1


# --- one uploaded file ---------------------------------------------------------------------------------


@pytest.fixture
def dump(site: Site, tmp_path: Path) -> bytes:
    return old_dump(site, tmp_path / "dump").read_bytes()


def test_an_uploaded_file_gets_a_name_of_its_own_and_a_copy_in_every_location(
    site: Site, dump: bytes
) -> None:
    operation = site.upload(dump, "../../etc/qrdb_20990101_000000.sql")

    assert operation.state == "succeeded", operation.error
    backup = Backup.objects.get()
    assert backup.name.startswith(f"qrdb_{datetime.now(UTC):%Y%m}")
    assert (backup.origin, backup.created_by, backup.state) == ("imported", "tester", "validated")
    assert abs((backup.created_at - datetime.now(UTC)).total_seconds()) < 60
    assert states(backup) == {"working": "stored", "second": "stored"}
    assert site.files() == {backup.name, f"{backup.name}.json"}
    assert (site.working / backup.name).stat().st_mode & 0o777 == 0o600
    assert operation.result["backup"] == backup.name
    assert operation.steps.filter(what="It was uploaded as “../../etc/qrdb_20990101_000000.sql”.").exists()
    assert site.restore(backup).state == "succeeded"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda _: b"", "The uploaded file is empty."),
        (lambda _: b"-- PostgreSQL database dump\n", "The uploaded file is a plain SQL script"),
        (lambda dump: dump[:-2000], "The uploaded file is damaged: it cannot be read to its end."),
        (lambda _: b"GIF89a" + bytes(100), "The uploaded file is not a PostgreSQL archive"),
    ],
    ids=["empty", "plain SQL", "truncated", "foreign"],
)
def test_what_is_no_backup_is_refused_and_nothing_is_left(
    site: Site, dump: bytes, change: Any, sentence: str
) -> None:
    operation = site.upload(change(dump))

    assert (operation.state, operation.blame) == ("failed", "backup")
    assert operation.error.startswith(sentence)
    assert operation.error.endswith("Nothing was imported.")
    assert site.files() == set()
    assert not Backup.objects.exists()


def test_the_same_file_is_not_imported_twice(site: Site, dump: bytes) -> None:
    site.upload(dump)

    operation = site.upload(dump)

    assert operation.error.startswith("This very file is here already, as ")
    assert Backup.objects.count() == 1


@pytest.mark.parametrize("when", ["before it is stored", "before it is recorded"])
def test_the_same_file_twice_at_once_is_adopted_once(
    site: Site, dump: bytes, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    where, name = (uploads, "_store") if when == "before it is stored" else (uploads.adoption, "record")
    real, others = getattr(where, name), [0]

    def meanwhile(*words: Any, **more: Any) -> Any:
        if not others[0]:
            others[0] = 1
            path, file = vault.new_upload(config.upload_folder())
            with file:
                file.write(dump)
            others.append(tasks.request_import_upload(path.name, original="again", **WHO).pk)
            tasks.run_here(Operation.objects.get(pk=others[1]))
        return real(*words, **more)

    monkeypatch.setattr(where, name, meanwhile)

    site.upload(dump)

    states = list(Operation.objects.filter(kind="import").values_list("state", flat=True))
    assert sorted(states) == ["failed", "succeeded"]
    assert "This very file is here already, as " in "".join(Operation.objects.values_list("error", flat=True))
    assert Backup.objects.count() == 1
    assert len([name for name in site.files() if name.endswith(".sql")]) == 1


def test_an_upload_that_dies_right_after_its_record_is_a_whole_backup(
    site: Site, dump: bytes, broken: Any
) -> None:
    broken(uploads.adoption, "point_to", KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        site.upload(dump)

    uploaded = Backup.objects.get()
    assert states(uploaded) == {"working": "stored", "second": "pending"}
    assert site.validate(uploaded).state == "succeeded"


def test_two_archives_of_one_second_get_two_names(site: Site, tmp_path: Path) -> None:
    both = [old_dump(site, tmp_path / "a", "--compress=0"), old_dump(site, tmp_path / "b", "--compress=1")]

    for dump in both:
        assert site.upload(dump.read_bytes()).state == "succeeded"

    assert Backup.objects.count() == 2


def test_the_name_of_an_upload_is_nobody_elses_in_any_location(
    site: Site, dump: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime.now(UTC).replace(microsecond=0)
    names = [vault.make_name("qrdb", made + timedelta(seconds=ahead)) for ahead in range(3)]
    for name, folder in zip(names, (site.working, site.second, site.second), strict=False):
        (folder / name).write_text("somebody else's")
    monkeypatch.setattr(uploads.adoption.Judged, "taken_at", made)

    operation = site.upload(dump)

    assert operation.state == "succeeded", operation.error
    assert Backup.objects.get().name == vault.make_name("qrdb", made + timedelta(seconds=3))


def test_an_upload_does_not_wait_long_for_a_silent_location(
    site: Site, dump: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, ended = threading.Event(), list[bool]()

    def silent(way: str) -> Any:
        real = getattr(LocalLocation, way)

        def ask(location: LocalLocation, *words: Any) -> Any:
            if location.alias == "second":
                ended.append(over.wait(20))
            return real(location, *words)

        return ask

    for way in ("names", "exists"):
        monkeypatch.setattr(LocalLocation, way, silent(way))
    monkeypatch.setattr(places, "PAGE_SECONDS", 0.3)

    operation = site.upload(dump)
    over.set()

    assert operation.state == "succeeded", operation.error
    assert False not in ended


def test_an_archive_of_another_database_is_imported_with_a_warning(
    site: Site, settings: Settings, dump: bytes
) -> None:
    settings.MANAGED_DATABASE_URL = settings.MANAGED_DATABASE_URL.replace("/qrdb", "/qrtest")

    operation = site.upload(dump)

    backup = Backup.objects.get()
    assert backup.name.startswith("qrtest_")
    assert backup.warnings == ["It was taken from the database qrdb, not from qrtest."]
    assert operation.state == "succeeded"


def test_a_cancelled_import_of_an_upload_leaves_nothing(site: Site, dump: bytes, at_step: Any) -> None:
    from backups_app.errors import Cancelled

    def cancel(_journal: object) -> None:
        raise Cancelled("It was cancelled.")

    at_step("Store it", cancel)

    assert site.upload(dump).state == "cancelled"
    assert site.files() == set()


def test_forgotten_uploads_are_swept_and_waiting_ones_are_not(site: Site) -> None:
    import os

    made = [vault.new_upload(config.upload_folder()) for _ in range(3)]
    for path, file in made:
        file.close()
        os.utime(path, (0, 0))
    (forgotten, _), (waiting, _), (recent, _) = made
    os.utime(recent)
    tasks.request_import_upload(waiting.name, original="x", is_queued=False)
    (site.working / ".notes").write_text("mine")

    uploads.sweep_forgotten()

    assert [path.exists() for path in (forgotten, waiting, recent)] == [False, True, True]
    for path in (waiting, recent, site.working / ".notes"):
        path.unlink()


def test_an_upload_may_wait_in_a_folder_of_its_own(
    site: Site, dump: bytes, settings: Settings, tmp_path: Path
) -> None:
    settings.UPLOAD_FOLDER = str(tmp_path / "uploads")
    (tmp_path / "uploads").mkdir()

    operation = site.upload(dump)

    assert operation.state == "succeeded", operation.error
    assert list((tmp_path / "uploads").iterdir()) == []
    assert [path.stat().st_mode & 0o777 for path in site.working.glob("qrdb_*")] == [0o600, 0o600]


@pytest.mark.parametrize("name", ["../x", "qrdb_20250101_000000.sql", ".qradmin-upload-", "/etc/passwd"])
def test_nothing_but_an_upload_is_ever_opened_as_one(site: Site, name: str) -> None:
    operation = site.attempt(tasks.request_import_upload(name, original="x", **WHO))

    assert operation.error.startswith("This is not the name of an uploaded file.")


def test_a_file_of_a_date_that_no_backup_can_have_is_never_adopted(site: Site) -> None:
    for name in ("qrdb_99991231_235959.sql", "qrdb_00010101_000000.sql"):
        old_dump(site, site.working / name)

    assert site.import_found().result["adopted"] == []
    assert not Backup.objects.exists()


def test_a_backup_of_such_a_date_that_is_known_already_is_still_looked_after(site: Site) -> None:
    name = "qrdb_99991231_235959.sql"
    backup = site.backup()
    for folder in (site.working, site.second):
        (folder / backup.name).rename(folder / name)
    Backup.objects.update(name=name, created_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))

    assert tasks.find_backup(name) == backup
    assert site.check_copies().result["intact"] == 2
    assert site.attempt(tasks.request_prune(**WHO)).state == "succeeded"
