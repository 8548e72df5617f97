"""The recipes of the runbooks do what they say: each is run word for word on a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from backups_app import tasks
from backups_app.models import Backup
from backups_app.presentation import recipes
from backups_app.presentation.recipes import Place, Recipe
from deploy.demo import embedded
from tests.operations.site import WHO, Site

Shell = Callable[..., str]
CONFIGURATION = (".env", "docker-compose.yml", "traefik.yml", "dynamic_conf.yml", "users.htpasswd")
EXAMPLE_IDS = "('id of a QR code'), ('id of another')"
# Stands for the program `docker`: it copies out of a folder and into it, and runs migrations with psql.
DOCKER = f"""#!{sys.executable}
import os, subprocess, sys
words = sys.argv[1:]
print(*words, file=open("asked", "a"))
if words[0] == "cp":
    folder = os.environ["APP"]
    argv = ["tar", "-c", "data"] if words[-1] == "-" else ["tar", "-x"]
    sys.exit(subprocess.run(argv, cwd=folder).returncode)
handed = [words[n + 1] for n, word in enumerate(words) if word == "--env"]
assert {{"POSTGRES_DB", "PG_DATABASE_URL"}} <= set(handed), "the container would see the live database"
assert os.environ["PG_DATABASE_URL"].endswith("/" + os.environ["POSTGRES_DB"])
migration = "ALTER TABLE qr_codes ADD COLUMN colour text; UPDATE alembic_version SET version_num = 'new'"
environment = os.environ | {{"PGDATABASE": os.environ["POSTGRES_DB"]}}
psql = ["psql", "--set=ON_ERROR_STOP=1", "--command", migration]
sys.exit(subprocess.run(psql, env=environment).returncode)
"""


@pytest.fixture
def place(one_folder: Site, superuser: psycopg.Connection[object], pg_major: int) -> Iterator[Place]:
    """The server of the tests, and the backup's file in the folder in which the commands run."""
    server = one_folder.server
    backup = one_folder.backup()
    yield Place(server.host, server.port, server.user, server.database, str(pg_major), backup.name)
    for name in ("qrdb_rows", "qrdb_trial"):
        superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def shell(one_folder: Site, pg_major: int, tmp_path: Path) -> Shell:
    """A function: run the commands of a recipe as one script; its output."""
    programs = embedded.find_bin(pg_major)
    assert programs is not None
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {
        "PATH": f"{docker.parent}:{programs}:{os.environ['PATH']}",
        "APP": str(tmp_path / "app"),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }

    def run(recipe: Recipe, *changes: tuple[str, str], folder: Path = one_folder.working) -> str:
        script = "".join(part.commands for part in recipe.parts)
        for old, new in changes:
            assert old in script
            script = script.replace(old, new)
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            cwd=folder,
            env=environment,
            input=f"{one_folder.server.password}\n",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def query(site: Site, statement: str) -> list[tuple[object, ...]]:
    with site.connected() as connection:
        return connection.execute(statement).fetchall()


def lose(site: Site, count: int) -> list[str]:
    """Delete so many QR codes, with their scans; the ids."""
    ids = [str(row[0]) for row in query(site, f"SELECT id FROM qr_codes ORDER BY id LIMIT {count}")]
    site.execute(f"DELETE FROM qr_codes WHERE id IN ({', '.join(repr(one) for one in ids)})")
    return ids


def test_chosen_codes_come_back_with_their_scans_and_nothing_else_changes(
    one_folder: Site, place: Place, shell: Shell, tmp_path: Path
) -> None:
    site, before = one_folder, one_folder.rows()
    first, second, third = lose(site, 3)
    site.execute("UPDATE qr_codes SET title = 'changed since then'")
    site.execute("INSERT INTO qr_codes (id, content, file_format) VALUES ('new', 'https://x', 'png')")
    changed = site.rows()

    told = shell(recipes.rows(place), (EXAMPLE_IDS, f"('{first}'), ('{second}')"))

    now = site.rows()
    back = {name: set(rows) - set(changed[name]) for name, rows in now.items()}
    assert all(set(changed[name]) <= set(rows) for name, rows in now.items()), "something was overwritten"
    assert all(rows <= set(before[name]) for name, rows in back.items()), "something else than it was"
    assert {str(row[0]) for row in query(site, "SELECT id FROM qr_codes")} >= {first, second, "new"}
    assert not query(site, f"SELECT 1 FROM qr_codes WHERE id = '{third}'")
    assert len(back["public.scan_logs"]) > 0
    assert third in told, "the missing ones are listed"
    assert list(site.working.glob("*.csv")) == list(tmp_path.rglob("*.csv")) == []


def test_a_code_whose_short_id_is_another_ones_now_stops_it_and_nothing_is_changed(
    one_folder: Site, place: Place, shell: Shell
) -> None:
    site = one_folder
    (short,) = query(
        site,
        "SELECT q.id, q.short_id FROM qr_codes q WHERE short_id IS NOT NULL"
        " AND EXISTS (SELECT FROM scan_logs s WHERE s.qr_code_id = q.id) LIMIT 1",
    )
    site.execute(f"DELETE FROM qr_codes WHERE id = '{short[0]}'")
    site.execute(
        "INSERT INTO qr_codes (id, content, file_format, short_id)"
        f" VALUES ('new', 'https://x', 'png', '{short[1]}')"
    )
    changed = site.rows()

    with pytest.raises(AssertionError, match="violates foreign key"):
        shell(recipes.rows(place), (EXAMPLE_IDS, f"('{short[0]}')"))

    assert site.rows() == changed


def test_a_backup_of_an_older_schema_stops_it_and_nothing_is_changed(
    one_folder: Site, place: Place, shell: Shell
) -> None:
    site = one_folder
    (lost,) = lose(site, 1)
    site.execute("ALTER TABLE qr_codes RENAME COLUMN border TO margin")
    changed = site.rows()

    with pytest.raises(AssertionError, match="column name mismatch"):
        shell(recipes.rows(place), (EXAMPLE_IDS, f"('{lost}')"))

    assert site.rows() == changed


def test_the_trial_migrates_a_copy_and_leaves_the_live_database_alone(
    one_folder: Site, place: Place, shell: Shell
) -> None:
    before = one_folder.rows()

    told = shell(recipes.trial(place))

    rows = [line.split("|") for line in told.splitlines() if "qrdb" in line]
    trial, live = ([cell.strip() for cell in row] for row in rows)
    assert (trial[0], trial[1]) == ("qrdb_trial", "new")
    assert (live[0], live[1]) == ("qrdb", "8d13a4dfeb1d")
    assert trial[2:] == live[2:]
    assert one_folder.rows() == before
    assert not query(one_folder, "SELECT 1 FROM pg_database WHERE datname = 'qrdb_trial'")
    assert one_folder.server.password not in (one_folder.working / "asked").read_text()


def test_a_trial_database_is_used_where_there_is_one(
    one_folder: Site, place: Place, shell: Shell, superuser: psycopg.Connection[object]
) -> None:
    site, before = one_folder, one_folder.rows()
    backup = Backup.objects.get(name=place.name)
    made = site.attempt(tasks.request_trial(backup, **WHO))
    there = replace(place, trial=made.result["database"])
    (lost,) = lose(site, 1)

    shell(recipes.rows(there), (EXAMPLE_IDS, f"('{lost}')"))
    told = shell(recipes.trial(there))

    assert site.rows() == before
    assert f"{there.trial} | new" in told
    assert site.databases() == {"qrdb", there.trial}


def test_the_files_are_saved_for_their_owner_alone_and_put_back(
    one_folder: Site, shell: Shell, tmp_path: Path
) -> None:
    system, data = tmp_path / "system", tmp_path / "app" / "data"
    for folder in (system, data / "logos"):
        folder.mkdir(parents=True)
    for name in CONFIGURATION:
        (system / name).write_text(f"the {name}")
    (data / "logos" / "college.png").write_bytes(b"logo")
    shell(recipes.files(Place()), folder=system)
    saved = sorted(system.glob("qr_*"))
    modes = {path.stat().st_mode & 0o777 for path in saved}
    (data / "logos" / "college.png").unlink()
    for name in CONFIGURATION:
        (system / name).unlink()

    stamp = saved[0].name.removeprefix("qr_config_").removesuffix(".tar.gz")
    shell(recipes.files_back(Place()), ("20250525_143022", stamp), folder=system)

    assert (len(saved), modes) == (3, {0o600})
    assert (data / "logos" / "college.png").read_bytes() == b"logo"
    assert {name: (system / name).read_text() for name in CONFIGURATION} == {
        name: f"the {name}" for name in CONFIGURATION
    }


def test_what_is_filled_in_cannot_break_out_of_its_place() -> None:
    place = replace(Place(), database="a b; rm -rf /", user="o'neil", container="x; reboot")

    commands = recipes.rows(place).parts[0].commands + recipes.files(place).parts[0].commands

    assert "LIVE='a b; rm -rf /'\n" in commands
    assert "'o'\"'\"'neil'" in commands
    assert "docker cp 'x; reboot':/app/data" in commands
