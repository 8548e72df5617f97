"""What the compose file promises, read from the file itself; `make test-containers` runs it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.site.conftest import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = [name for name, service in SERVICES.items() if not service.get("profiles") and name != "migrate"]


def test_only_the_worker_reaches_the_control_of_containers() -> None:
    neighbours = {name for name, service in SERVICES.items() if "docker-control" in service["networks"]}

    assert neighbours == {"worker", "docker-control"}
    assert COMPOSE["networks"]["docker-control"]["internal"]
    assert {
        name for name, service in SERVICES.items() if "DOCKER_HOST" in service.get("environment", {})
    } == {"worker"}


def test_only_the_filter_has_the_socket_of_the_engine() -> None:
    holders = {
        name
        for name, service in SERVICES.items()
        if any("docker.sock" in volume for volume in service.get("volumes", []))
    }

    assert holders == {"docker-control"}


def test_the_web_server_cannot_change_a_backup() -> None:
    assert SERVICES["web"]["volumes"] == ["backups:/backups:ro", "uploads:/uploads"]
    assert SERVICES["worker"]["volumes"] == ["backups:/backups", "uploads:/uploads"]


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_lasts_is_limited_and_comes_back(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize(
    "name", ["web", "worker", "site-database", "docker-control", "demo-postgres", "demo-api"]
)
def test_a_service_says_whether_it_is_healthy(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_a_secret_in_its_environment(name: str) -> None:
    service = SERVICES[name]

    for variable, value in service.get("environment", {}).items():
        is_secret = any(word in variable for word in ("PASSWORD", "SECRET", "DATABASE_URL"))
        assert not is_secret or (variable.endswith("_FILE") and value.startswith("/run/secrets/")), variable
    assert not service.get("privileged")


@pytest.mark.parametrize("name", ["web", "worker", "migrate"])
def test_the_site_runs_without_rights_on_a_file_system_that_it_cannot_change(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service, "the image has the user"


def test_a_variable_of_the_environment_file_is_not_set_to_its_default_by_the_compose_file() -> None:
    """What the compose file sets goes before the file: an administrator's own value would be lost."""
    given = {name for name in ("web", "worker", "migrate") for name in SERVICES[name]["environment"]}

    assert {name.removesuffix("_FILE") for name in given} == {
        *("SECRET_KEY", "DATABASE_URL", "MANAGED_DATABASE_URL", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS"),
        *("UPLOAD_FOLDER", "DOCKER_HOST"),
        *("BACKUP_LOCATIONS", "API_CONTAINER", "API_HEALTH_URL"),  # taken from the same file
    }
    assert COMPOSE["x-site"]["env_file"] == ["${SETTINGS:-.env}"]


def test_a_running_operation_is_waited_for() -> None:
    assert SERVICES["worker"]["stop_grace_period"] == "15m"


def test_no_page_starts_the_containers_of_another_image() -> None:
    """`start` and `restart` take the containers that are there, whatever .env names now."""
    pages = "".join(path.read_text() for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md"))

    started = re.findall(r"^docker compose (?:re)?start (.+)$", pages, re.MULTILINE)

    assert started == ["docker-control"], "it reads its own file anew"


def test_the_image_does_not_run_as_root_and_takes_only_pinned_packages() -> None:
    lines = (ROOT / "Dockerfile").read_text()

    assert "\nUSER qradmin\n" in lines
    assert "--require-hashes -r" in lines
    assert '\nENTRYPOINT ["tini"' in lines
    assert "\nHEALTHCHECK " in lines


def test_the_further_places_of_the_installation_page_fit_the_compose_file() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "installation.md").read_text(), re.DOTALL)
    further = yaml.safe_load(block)
    known = (ROOT / ".env.example").read_text()

    assert set(further["services"]) == {"web", "worker", "migrate"} <= set(SERVICES)
    for name, service in further["services"].items():
        assert set(service["secrets"]) == set(further["secrets"]), name
        for variable, path in service["environment"].items():
            assert f"#{variable.removesuffix('_FILE')}=" in known
            assert path.removeprefix("/run/secrets/") in further["secrets"]
    # A mount of the host that goes and comes back has to be seen in the containers that run.
    assert further["services"]["web"]["volumes"] == ["/mnt/nas:/mnt/nas:ro,rslave"]
    assert further["services"]["worker"]["volumes"] == ["/mnt/nas:/mnt/nas:rslave"]
    assert not set(further["secrets"]) & set(COMPOSE["secrets"])
