"""The image and the compose file on a real Docker Engine: everything works, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from backups_app.systems.vault.names import CHECK_PREFIX
from tests.deployment.engine import ROOT
from tests.deployment.stack import API, COUNT, Deployment

OLD_SCRIPTS = ROOT / "docs" / "coming-from-the-scripts.md"
SITE_RECOVERY = ROOT / "docs" / "site-recovery.md"
OLD_FLAGS = ("--format=custom", "--no-owner", "--no-privileges", "--no-tablespaces")
BEFORE = "qradmin:before"
LOCK = "LOCK TABLE scan_logs IN ACCESS EXCLUSIVE MODE"
LOCKED = (
    "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock'"
    " AND relation = 'scan_logs'::regclass"
)
pytestmark = pytest.mark.timeout(900)
ASK = """
import sys, urllib.error, urllib.request
address, method, body = sys.argv[1:]
kind = {"Content-Type": "application/json"}
request = urllib.request.Request(address, body.encode() or None, kind, method=method)
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print("no way")
"""


def ask(stack: Deployment, service: str, proxy: str, method: str, path: str, body: str = "") -> str:
    status, output = stack.run(service, "python3", "-c", ASK, f"http://{proxy}:2375{path}", method, body)
    assert status == 0, output
    return output.strip()


def test_a_production_safe_backup_is_restored_over_http(stack: Deployment) -> None:
    started = stack.container("demo-api").attrs["State"]["StartedAt"]
    before = stack.sql(COUNT)

    number, name = stack.back_up(stop_api="1")
    again = stack.container("demo-api").attrs["State"]
    stack.sql("DELETE FROM qr_codes WHERE hashtext(id) % 3 = 0")
    damaged = stack.sql(COUNT)
    restore = stack.ask(f"/backups_app/backup/{number}/restore/", typed=name, reason="Tried in containers")

    assert again["Running"]
    assert again["StartedAt"] != started, "the API was not stopped"
    assert damaged != before
    assert stack.finish(restore) == "succeeded", stack.look_at(restore)
    assert stack.sql(COUNT) == before
    stack.await_health("demo-api")


def test_a_backup_without_a_stop_lies_in_the_volume_for_the_service_alone(stack: Deployment) -> None:
    started = stack.container("demo-api").attrs["State"]["StartedAt"]

    _, name = stack.back_up()

    _, mode = stack.run("worker", "stat", "--format=%a %U", f"/backups/{name}")
    assert mode.split() == ["600", "qradmin"]
    assert stack.container("demo-api").attrs["State"]["StartedAt"] == started


def test_a_worker_killed_in_the_middle_loses_nothing_and_the_api_comes_back(stack: Deployment) -> None:
    _, name = stack.back_up()
    before, files = stack.sql(COUNT), _files(stack)
    # A lock keeps the dump waiting, after the API has been stopped.
    stack.start(
        "demo-postgres", "psql", "-U", "qr_admin", "-d", "qrdb", "-c", f"BEGIN; {LOCK}; SELECT pg_sleep(600)"
    )
    stack.await_that("the table is locked", lambda: stack.sql(LOCKED) == "1")
    operation = stack.ask("/backups_app/backup/create/", stop_api="1")
    stack.await_that("the API is stopped", lambda: not stack.container("demo-api").attrs["State"]["Running"])

    os.kill(stack.container("worker").attrs["State"]["Pid"], signal.SIGKILL)
    stack.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; {LOCK}%'")

    assert stack.finish(operation) == "interrupted"
    stack.await_that("the API runs again", lambda: stack.container("demo-api").attrs["State"]["Running"])
    stack.await_health("demo-api", "worker")
    assert stack.sql(COUNT) == before
    assert _files(stack) == files
    assert name in files
    assert stack.manage("validate_backup", name)["state"] == "succeeded"
    assert "terminating any other active server processes" not in stack.logs("demo-postgres")


def test_the_stack_forgets_nothing_when_it_is_started_anew(stack: Deployment) -> None:
    _, name = stack.back_up()
    before = _records(stack), _files(stack), stack.sql(COUNT)

    stack.compose("down", "--timeout", "60")
    stack.compose("up", "--detach", "--no-build")
    stack.await_health("web", "worker", "demo-api")

    records, files, rows = before
    assert _records(stack)[: len(records)] == records
    assert (_files(stack), stack.sql(COUNT)) == (files, rows)
    assert stack.manage("validate_backup", name)["state"] == "succeeded"
    assert stack.back_up()[1] != name


def test_a_file_of_the_old_scripts_is_taken_along_as_the_page_says(stack: Deployment) -> None:
    (command,) = re.findall(r"```sh\n(.*?)```", OLD_SCRIPTS.read_text(), re.DOTALL)
    old = stack.folder / "backups" / "qrdb_20240229_040000.sql"
    old.parent.mkdir()
    old.write_bytes(stack.output("demo-postgres", "pg_dump", "-U", "qr_admin", *OLD_FLAGS, "qrdb"))

    assert "(cd ../qr-system/backups && " in command
    command = command.replace("../qr-system/backups", str(old.parent))
    stack.shell(command.replace("docker compose", stack.compose_command))
    imported = stack.manage("import_backups")
    proven = stack.manage("prove_backup", old.name)

    assert imported["state"] == "succeeded"
    assert proven["state"] == "succeeded"
    _, mode = stack.run("worker", "stat", "--format=%a %U", f"/backups/{old.name}")
    assert mode.split() == ["600", "qradmin"]


def test_a_file_is_uploaded_through_the_page_although_the_web_process_only_reads_the_backups(
    stack: Deployment,
) -> None:
    dumped = stack.output("demo-postgres", "pg_dump", "-U", "qr_admin", *OLD_FLAGS, "qrdb")
    before = _files(stack)

    taken = stack.hand_in("theirs.sql", dumped)

    assert stack.finish(taken) == "succeeded", stack.look_at(taken)
    (name,) = {name for name in _files(stack) if name not in before and name.endswith(".sql")}
    assert stack.manage("validate_backup", name)["state"] == "succeeded"
    assert stack.run("worker", "ls", "-A", "/uploads")[1].split() == []


def test_the_sites_own_database_comes_back_as_the_page_says(
    stack: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way back to the version before, with its image."""
    stack.back_up()
    known = _records(stack)
    file = stack.manage("backup_site")["file"]
    _, later = stack.back_up()
    command = SITE_RECOVERY.read_text().partition("## In the compose stack")[2].split("```")[1]
    command = command.removeprefix("sh").replace("docker compose", stack.compose_command)
    stack.site_sql("TRUNCATE backups_app_step, backups_app_workerbeat")
    stack.tag(BEFORE)
    monkeypatch.setattr(stack, "image", BEFORE)

    stack.shell(re.sub(r"qradmin_site_\w+\.dump", file, command))
    stack.await_health("web", "worker")

    running = [stack.container(service).attrs["Config"]["Image"] for service in ("web", "worker")]
    assert running == [BEFORE, BEFORE]
    assert _records(stack)[: len(known)] == known
    assert int(stack.site_sql("SELECT count(*) FROM backups_app_step")) > 0
    assert stack.manage("validate_backup", later)["state"] == "succeeded"
    assert stack.back_up()[1] != later


def test_the_api_is_stopped_and_started_by_hand_through_the_worker(stack: Deployment) -> None:
    stop = stack.ask("/backups_app/operation/api/stop/", reason="Tried in containers")
    stopped = stack.finish(stop), stack.container("demo-api").attrs["State"]["Running"]
    start = stack.ask("/backups_app/operation/api/start/", reason="Tried in containers")

    assert stopped == ("succeeded", False)
    assert stack.finish(start) == "succeeded"
    stack.await_health("demo-api")


def test_migrations_run_in_the_apis_container_with_its_own_rights(stack: Deployment) -> None:
    """For the stack the command that runs them is `id -un`."""
    migrate = stack.ask("/backups_app/operation/api/migrate/", reason="Tried in containers")

    assert stack.finish(migrate) == "succeeded", stack.look_at(migrate)
    told = stack.site_sql(f"SELECT detail FROM backups_app_step WHERE operation_id = {migrate}")
    assert "qradmin" in told


def test_the_site_says_that_all_is_well(stack: Deployment) -> None:
    stack.back_up()

    page = stack.staff.open("/health")
    overview = stack.staff.open("/")

    assert (page.status, json.loads(page.text)["status"]) == (200, "healthy")
    assert overview.status == 200
    assert "cannot be used" not in overview.text


@pytest.mark.parametrize("service", ["web", "worker"])
def test_a_container_can_write_nowhere_but_where_it_must_and_has_no_rights(
    stack: Deployment, service: str
) -> None:
    facts = stack.container(service).attrs

    _, user = stack.run(service, "id", "-un")
    written, _ = stack.run(service, "touch", "/app/anything")
    backups, _ = stack.run(service, "touch", "/backups/anything")
    stack.run(service, "rm", "-f", "/backups/anything")
    _, status = stack.run(service, "cat", "/proc/self/status")

    assert user.strip() == "qradmin"
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert written != 0
    assert (backups == 0) == (service == "worker"), "only the worker may change a backup"
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert facts["HostConfig"]["Memory"]
    assert facts["HostConfig"]["PidsLimit"]


def test_the_web_server_has_no_way_to_docker_and_tells_how_the_api_is_all_the_same(
    stack: Deployment,
) -> None:
    stack.await_health("demo-api")

    def card() -> str:
        page = stack.staff.open("/")
        assert page.status == 200, page.text[:500]
        (found,) = re.findall(r'<h2>API</h2><p class="value">(.*?)</p>', page.text)
        return str(found)

    for name in ("docker-control", "docker-view"):
        assert ask(stack, "web", name, "GET", "/version") == "no way"
    assert "DOCKER_HOST" not in stack.run("web", "env")[1]
    stack.await_that("the overview says that it is healthy", lambda: card() == "healthy")
    stop = stack.ask("/backups_app/operation/api/stop/", reason="Tried in containers")
    assert (stack.finish(stop), card()) == ("succeeded", "stopped"), "the page is behind"
    start = stack.ask("/backups_app/operation/api/start/", reason="Tried in containers")
    assert (stack.finish(start), card()) == ("succeeded", "healthy"), "the page is behind"


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/version", "", "200"),
        ("GET", f"/v1.41/containers/{API}/json", "", "200"),
        ("GET", f"/v1.41/containers/{API}/logs?stdout=1", "", "200"),
        ("POST", f"/containers/{API}/exec", '{"Cmd": ["id"]}', "201"),
        ("POST", f"/containers/{API}/exec", '{"Cmd": ["id"], "privileged" : 1}', "403"),
        ("POST", f"/containers/{API}/exec", '{"Cmd": ["id"], "\\u0050rivileged": true}', "403"),
        ("POST", f"/containers/{API}/exec", f'{{"Cmd": ["id"], {9000 * " "} "Privileged": true}}', "403"),
        ("POST", f"/containers/{API}/exec", '{"Cmd": ["id"], "User": "", "Privileged": false}', "201"),
        ("POST", f"/containers/{API}/exec", '{"Cmd": ["id"], "user" : "0:0"}', "403"),
        ("POST", f"/containers/{API}/exec", '{"Cmd": ["id"], "U\u017fer": "root"}', "403"),
        ("POST", f"/v1.41/containers/{API}/start", '{"Privileged": true, "Binds": ["/:/host"]}', "403"),
        ("POST", f"/v1.23/containers/{API}/start", "", "403"),
        ("POST", f"/v1.41/containers/{API}/start", "", "304"),
        ("POST", "/containers/create", '{"Image": "any"}', "403"),
        ("POST", f"/containers/{API}/../qr_generator_postgres/stop", "", "403"),
        ("POST", f"/containers/{API}%2f..%2fqr_generator_postgres/stop", "", "403"),
        ("GET", "/containers/qr_generator_postgres/json", "", "403"),
        ("DELETE", f"/containers/{API}", "", "403"),
        ("GET", "/containers/json", "", "403"),
        ("GET", "/info", "", "403"),
    ],
    ids=[
        "version", "inspect", "logs", "exec", "privileged", "privileged-escaped", "privileged-far-behind",
        "exec-as-the-library-asks", "exec-as-root", "exec-as-root-oddly", "start-with-more-rights",
        "start-in-an-old-version", "start-again",
        "create", "other-by-dots", "other-by-escapes", "inspect-another", "delete", "list", "info",
    ],
)  # fmt: skip
def test_the_worker_may_make_the_calls_that_are_written_down_and_no_others(
    stack: Deployment, method: str, path: str, body: str, expected: str
) -> None:
    assert ask(stack, "worker", "docker-control", method, path, body) == expected


def test_the_logs_name_the_operation_and_no_secret(stack: Deployment) -> None:
    stack.back_up()

    lines = [json.loads(line) for line in stack.logs("worker").splitlines() if line.startswith("{")]
    everything = "".join(
        stack.logs(one) for one in ("web", "worker", "migrate", "docker-control", "demo-api")
    )

    assert any("operation" in line for line in lines)
    for name in (
        "secret_key",
        "database_url",
        "managed_database_url",
        "site_database_password",
        "demo_password",
    ):
        assert stack.secret(name) not in everything, name
    assert stack.secret("managed_database_url").split(":")[2].split("@")[0] not in everything


def _files(stack: Deployment) -> list[str]:
    """Without the one with which a starting worker tries, for a moment, whether it can write."""
    lying = stack.run("worker", "ls", "-A", "/backups")[1].split()
    return [name for name in lying if not name.startswith(CHECK_PREFIX)]


def _records(stack: Deployment) -> list[str]:
    return stack.site_sql(
        "SELECT id, kind, state, requested_by_name, created_at FROM backups_app_operation ORDER BY id"
    ).splitlines()
