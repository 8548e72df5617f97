"""The demo's own PostgreSQL server keeps to itself, and its sample database has the real schema."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups_app.systems.postgres.connections import Server
from deploy.demo import embedded, sample
from deploy.demo.place import Place
from tests.conftest import on_all_majors

ROOT = Path(__file__).resolve().parent.parent

CODE_COLUMNS = {
    "id": ("character varying(36)", True, None),
    "content": ("text", True, None),
    "qr_type": ("character varying(50)", True, "'static'::character varying"),
    "redirect_url": ("text", False, None),
    "short_id": ("character varying(10)", False, None),
    "created_at": ("timestamp with time zone", True, "CURRENT_TIMESTAMP"),
    "updated_at": ("timestamp with time zone", False, None),
    "scan_count": ("integer", True, "0"),
    "last_scan_at": ("timestamp with time zone", False, None),
    "file_format": ("character varying(10)", True, None),
    "fill_color": ("character varying(50)", True, "'black'::character varying"),
    "back_color": ("character varying(50)", True, "'white'::character varying"),
    "size": ("integer", True, "10"),
    "border": ("integer", True, "4"),
    "has_logo": ("boolean", True, "false"),
    "title": ("character varying(255)", False, None),
    "description": ("text", False, None),
    "error_level": ("character varying(1)", True, "'m'::character varying"),
    "genuine_scan_count": ("integer", True, "0"),
    "first_genuine_scan_at": ("timestamp with time zone", False, None),
    "last_genuine_scan_at": ("timestamp with time zone", False, None),
    "refactor_metadata": ("jsonb", False, "'{}'::jsonb"),
}
SCAN_COLUMNS = {
    "id": ("character varying", True, None),
    "qr_code_id": ("character varying", True, None),
    "scanned_at": ("timestamp with time zone", True, "now()"),
    "ip_address": ("character varying(50)", False, None),
    "raw_user_agent": ("text", False, None),
    "is_genuine_scan": ("boolean", True, "false"),
    "device_family": ("character varying(100)", False, None),
    "os_family": ("character varying(50)", False, None),
    "os_version": ("character varying(50)", False, None),
    "browser_family": ("character varying(50)", False, None),
    "browser_version": ("character varying(50)", False, None),
    "is_mobile": ("boolean", True, "false"),
    "is_tablet": ("boolean", True, "false"),
    "is_pc": ("boolean", True, "false"),
    "is_bot": ("boolean", True, "false"),
    "processed_by_new_service": ("boolean", False, "false"),
}
SCAN_INDEXES = {
    "ix_scan_logs_id",
    "ix_scan_logs_qr_code_id",
    "ix_scan_logs_scanned_at",
    "ix_scan_logs_is_genuine_scan",
    "ix_scan_logs_device_family",
    "ix_scan_logs_os_family",
    "ix_scan_logs_browser_family",
    "ix_scan_logs_is_mobile",
    "ix_scan_logs_is_tablet",
    "ix_scan_logs_is_pc",
    "ix_scan_logs_is_bot",
}


@pytest.fixture
def own_server() -> Iterator[embedded.EmbeddedServer]:
    programs = embedded.find_bin(16)
    assert programs is not None
    with tempfile.TemporaryDirectory() as folder:  # mode 0700: as root, the server's user cannot enter it
        place = Path(folder) / "postgresql"
        with embedded.start(place, bin=programs, for_tests=True) as server:
            yield server
        embedded.forget(place)
        assert not server.data.exists()


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended but was not yet collected by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def comes_true(question: Any, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return True
        time.sleep(0.05)
    return False


def columns_of(connection: psycopg.Connection[Any], table: str) -> dict[str, tuple[str, bool, str | None]]:
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        [table],
    ).fetchall()
    return {name: (kind, is_required, default) for name, kind, is_required, default in rows}


def indexes_of(connection: psycopg.Connection[Any], table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", [table]
    ).fetchall()
    return dict(rows)


def test_the_server_listens_on_the_loopback_address_only_and_asks_for_a_password(
    own_server: embedded.EmbeddedServer,
) -> None:
    with psycopg.connect(own_server.url()) as connection:
        settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())

    assert settings["listen_addresses"] == "127.0.0.1"
    assert settings["unix_socket_directories"] == ""
    assert settings["password_encryption"] == "scram-sha-256"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own_server.url().replace(own_server.password, "guess"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"host=127.0.0.1 port={own_server.port} user=postgres dbname=postgres")


def test_the_password_is_in_no_argument_and_in_no_open_file(own_server: embedded.EmbeddedServer) -> None:
    secret = own_server.data.parent / "superuser-password"

    assert own_server.password.encode() not in Path(f"/proc/{own_server.pid}/cmdline").read_bytes()
    assert own_server.password not in repr(own_server)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert not (own_server.data.parent / "initial-password").exists()


def test_the_server_does_not_run_as_root(own_server: embedded.EmbeddedServer) -> None:
    assert Path(f"/proc/{own_server.pid}").stat().st_uid != 0
    assert own_server.data.stat().st_uid != 0


def test_a_taken_port_is_left_alone(own_server: embedded.EmbeddedServer) -> None:
    assert embedded.free_port(own_server.port) != own_server.port


def test_stopping_ends_the_server_and_starting_again_finds_its_rows(tmp_path: Path) -> None:
    programs = embedded.find_bin(16)
    assert programs is not None
    place = tmp_path / "postgresql"
    with embedded.start(place, bin=programs) as first, psycopg.connect(first.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        connection.commit()
        first.stop()  # with a connection open
    assert not is_alive(first.pid)

    with (
        embedded.start(place, bin=programs, port=first.port) as second,
        psycopg.connect(second.url()) as connection,
    ):
        found = connection.execute("SELECT value FROM kept").fetchone()
    embedded.forget(place)

    assert found == (7,)
    assert second.port == first.port
    assert not place.exists()


def test_the_server_dies_with_the_program_that_started_it_and_can_be_started_again(tmp_path: Path) -> None:
    programs = embedded.find_bin(16)
    assert programs is not None
    place = tmp_path / "postgresql"
    program = (
        "import sys, time; from pathlib import Path; from deploy.demo import embedded\n"
        "server = embedded.start(Path(sys.argv[1]), bin=Path(sys.argv[2]))\n"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, place, programs], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        os.kill(parent.pid, signal.SIGKILL)

    with embedded.start(place, bin=programs):  # waits for the dying one
        assert not is_alive(pid)
    embedded.forget(place)


def test_a_folder_without_programs_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(embedded.StartError, match="There is no PostgreSQL server in"):
        embedded.start(tmp_path / "postgresql", bin=tmp_path)


@on_all_majors
def test_the_sample_has_every_column_key_and_index_of_the_real_schema(
    owner: psycopg.Connection[Any],
) -> None:
    keys = dict(
        owner.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype IN ('p', 'f') AND connamespace = 'public'::regnamespace"
        ).fetchall()
    )

    assert columns_of(owner, "qr_codes") == CODE_COLUMNS
    assert columns_of(owner, "scan_logs") == SCAN_COLUMNS
    assert columns_of(owner, "alembic_version") == {"version_num": ("character varying(32)", True, None)}
    assert set(indexes_of(owner, "qr_codes")) == {"qr_codes_pkey", "ix_qr_codes_id", "ix_qr_codes_short_id"}
    assert indexes_of(owner, "qr_codes")["ix_qr_codes_short_id"].startswith("CREATE UNIQUE INDEX")
    assert set(indexes_of(owner, "scan_logs")) == SCAN_INDEXES | {"scan_logs_pkey"}
    assert keys == {
        "alembic_version_pkc": "PRIMARY KEY (version_num)",
        "qr_codes_pkey": "PRIMARY KEY (id)",
        "scan_logs_pkey": "PRIMARY KEY (id)",
        "scan_logs_qr_code_id_fkey": "FOREIGN KEY (qr_code_id) REFERENCES qr_codes(id) ON DELETE CASCADE",
    }
    assert owner.execute("SELECT version_num FROM alembic_version").fetchall() == [("8d13a4dfeb1d",)]


@on_all_majors
def test_the_sample_is_owned_by_a_role_that_may_create_databases_but_is_no_superuser(
    managed: Server, superuser: psycopg.Connection[Any]
) -> None:
    role = superuser.execute(
        "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = %s", [managed.user]
    ).fetchone()
    database_owner = superuser.execute(
        "SELECT datdba::regrole::text FROM pg_database WHERE datname = %s", [managed.database]
    ).fetchone()

    assert role == (False, True, False)
    assert database_owner == (sample.OWNER,)


def test_the_sample_counts_its_scans_and_writes_many_scripts(owner: psycopg.Connection[Any]) -> None:
    counts = owner.execute("SELECT count(*), count(short_id), sum(scan_count) FROM qr_codes").fetchone()
    wrong = owner.execute(
        "SELECT count(*) FROM qr_codes AS code"
        " WHERE scan_count <> (SELECT count(*) FROM scan_logs WHERE qr_code_id = code.id)"
        " OR qr_type NOT IN ('static', 'dynamic')"
        " OR qr_type = 'dynamic' AND content <> 'https://qr.college.example/r/' || short_id"
    ).fetchone()
    text = " ".join(row[0] for row in owner.execute("SELECT coalesce(title, '') FROM qr_codes").fetchall())

    assert counts == (334, 223, 1002)
    assert wrong == (0,)
    for letter in "öΈРمה馆ニछ🎓":
        assert letter in text, letter


def test_the_sample_is_the_same_for_the_same_seed(owner: psycopg.Connection[Any]) -> None:
    digest = "SELECT md5(string_agg(id || content || coalesce(title, ''), '' ORDER BY id)) FROM qr_codes"
    before = owner.execute(digest).fetchone()

    owner.execute("TRUNCATE qr_codes, scan_logs")
    sample.fill(owner)

    assert owner.execute(digest).fetchone() == before


def test_a_strict_umask_does_not_lock_the_server_out(tmp_path: Path) -> None:
    programs = embedded.find_bin(16)
    assert programs is not None
    before = os.umask(0o077)
    try:
        with embedded.start(tmp_path / "postgresql", bin=programs, for_tests=True) as server:
            assert is_alive(server.pid)
    finally:
        os.umask(before)
        embedded.forget(tmp_path / "postgresql")


@contextmanager
def demo(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`make demo` with its state in ``folder``: the process, and what it printed until all was up."""
    program = "import sys; from pathlib import Path; from deploy.demo.run import main\n"
    program += "sys.exit(main(Path(sys.argv[1])))"
    with subprocess.Popen(
        [sys.executable, "-c", program, folder],
        cwd=ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"PORT": "18000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "Ctrl-C stops everything" in line:
                break
        try:
            yield process, printed
        finally:
            process.kill()


def processes_of(folder: Path) -> list[str]:
    """The programs that have the folder in their arguments or their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes()
            if os.fsencode(folder) in arguments + (process / "environ").read_bytes():
                found.append(arguments.replace(b"\0", b" ").decode())
    return found


def test_the_demo_runs_until_ctrl_c_and_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "demo"

    with demo(folder) as (first, printed):
        with demo(folder) as (second, refusal):
            assert second.wait(30) == 1
        address = next(line.strip() for line in printed.splitlines() if "http://" in line)
        with urllib.request.urlopen(address, timeout=10) as page:
            assert page.status == 200
        psql = next(line.strip() for line in printed.splitlines() if " psql " in line)
        asked = [*("sh", "-c"), f"{psql} --no-align --tuples-only --command='SELECT count(*) FROM qr_codes'"]
        counted = subprocess.run(asked, capture_output=True, text=True)
        assert counted.stdout.strip() == "334", counted.stderr
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 0
    assert "Took the first backup: qrdb_" in printed
    assert refusal.count("\n") == 1
    assert "already runs from this folder" in refusal
    assert processes_of(folder) == []

    with demo(folder) as (again, reprinted):
        again.kill()  # no chance to stop anything: the kernel tells the children
        again.wait()
        assert comes_true(lambda: processes_of(folder) == [], seconds=40)
    accounts = [line for line in printed.splitlines() if line.endswith(("IT staff", "Help desk"))]
    assert len(accounts) == 2
    assert [line for line in reprinted.splitlines() if line in accounts] == accounts
    assert "first backup" not in reprinted
    assert len(list((folder / "backups").glob("*.sql"))) == 1
    for secret in ("secrets.json", "site.sqlite3", "pgpass"):
        assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600
    Place(folder).forget()
