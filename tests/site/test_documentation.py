"""The documentation says what the code does: each variable with its default, each package with its reason."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from deploy import runbook_pages
from qradmin import environment
from tests.site.conftest import ROOT

DOCS = ROOT / "docs"
READERS = ("str", "choice", "bool", "int", "float", "list", "time_zone", "db_url")
SHOWN_EMPTY = "empty"
CONTAINERS = "## Of the containers alone"
# Set by the compose file to something else than the settings' default, as the QR system is beside it.
OF_THE_QR_SYSTEM = {"API_CONTAINER", "API_HEALTH_URL", "BACKUP_LOCATIONS"}


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Every variable that the settings read, and its default as it would be written in the environment."""
    found: dict[str, str] = {}
    for name in READERS:
        monkeypatch.setattr(environment.Environment, name, _noting(name, found))
    monkeypatch.setattr(environment.Environment, "read_env", lambda *_words, **_more: None)
    monkeypatch.setattr(environment.Environment, "ENVIRON", {})

    runpy.run_path(str(ROOT / "qradmin" / "settings.py"))

    assert len(found) > 30, "the settings were not seen to read the environment"
    return found


def test_the_page_of_the_configuration_has_every_variable_with_its_default(defaults: dict[str, str]) -> None:
    page = (DOCS / "configuration.md").read_text()
    rows = _rows(page.partition(CONTAINERS)[0])

    documented = dict(rows)

    assert documented == defaults
    assert len(rows) == len(documented), "a variable stands twice on the page"


def test_the_example_of_an_environment_has_every_variable_with_its_default(defaults: dict[str, str]) -> None:
    example = (ROOT / ".env.example").read_text()

    entries = re.findall(r"^# .+\n#([A-Z0-9_]+)=(.*)$", example, re.MULTILINE)

    assert dict(entries) == defaults | dict(_rows(_of_the_containers()))
    assert len(entries) == len(dict(entries)), "a variable stands twice in the example"


def test_the_example_names_what_the_compose_file_gives_itself() -> None:
    _, _, section = (ROOT / ".env.example").read_text().partition("# --- Of the containers alone")
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    told, _, others = section.partition("\n\n")[0].partition("Three have other defaults")

    given = {name.removesuffix("_FILE") for name in services["worker"]["environment"]} - OF_THE_QR_SYSTEM
    assert len(given) == 7
    assert {name for name in given if name not in told} == set()
    assert {name for name in OF_THE_QR_SYSTEM if f"{name}=" not in others} == set()


def test_the_page_has_every_variable_of_the_containers_with_its_default(defaults: dict[str, str]) -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    read = set(re.findall(r"\$\{([A-Z_]+):?-([^}]*)\}", compose))
    for path in (ROOT / "deploy" / "container").iterdir():
        if path.name in {"entrypoint", "gunicorn_settings.py"}:
            text = path.read_text()
            read |= set(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
            read |= set(re.findall(r'environ\.get\("([A-Z_]+)", "([^"]*)"\)', text))
            read |= set(re.findall(r'env\.int\("([A-Z_]+)", default=(\d+)', text))

    of_settings = {(name, default) for name, default in read if name in defaults}
    documented = _rows(_of_the_containers())

    assert sorted(documented) == sorted(read - of_settings)
    assert {pair for pair in of_settings if pair[0] not in OF_THE_QR_SYSTEM} <= set(defaults.items())


def test_every_package_that_somebody_chose_has_a_reason() -> None:
    page = (DOCS / "dependencies.md").read_text()
    lists = sorted(ROOT.glob("requirements*.in"))

    for path in lists:
        _, _, section = page.partition(f": `{path.name}`\n")
        reasons = re.findall(r"^\| (\S+) \| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
        named = [name for name, _ in reasons if name not in {"package", "---"}]
        assert sorted(named, key=str.lower) == sorted(_chosen(path), key=str.lower), path.name


def test_the_runbooks_say_what_the_pages_say() -> None:
    assert (DOCS / "runbooks.md").read_text() == runbook_pages.page(), "run: make runbooks"


def test_every_command_that_the_documentation_names_is_there() -> None:
    text = "".join(path.read_text() for path in (*DOCS.glob("*.md"), ROOT / "README.md"))

    named = set(re.findall(r"(?:manage\.py|`qradmin|run --rm \w+) ([a-z_]+)", text))

    assert named - set(get_commands()) == set()
    assert "restore" in named


@pytest.mark.parametrize("page", ["installation.md", "configuration.md", "runbooks.md"])
def test_a_page_that_has_settings_changed_says_how_they_come_to_count(page: str) -> None:
    assert "`docker compose up -d`" in (DOCS / page).read_text()


def test_every_page_stands_in_the_contents() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    assert sorted(_pages(nav)) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def _of_the_containers() -> str:
    return (DOCS / "configuration.md").read_text().partition(CONTAINERS)[2]


def _rows(page: str) -> list[tuple[str, str]]:
    """The variables of a page's tables with their defaults."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \| .+ \|$", page, re.MULTILINE)
    return [(name, "" if shown == SHOWN_EMPTY else shown.strip("`")) for name, shown in rows]


def _noting(name: str, found: dict[str, str]) -> Callable[..., Any]:
    original = getattr(environment.Environment, name)

    def read(self: Any, var: str, *words: Any, **more: Any) -> Any:
        found[var] = _written(more.get("default", ""))
        return original(self, var, *words, **more)

    return read


def _written(default: object) -> str:
    text = ",".join(default) if isinstance(default, list) else str(default)
    return text.replace(str(ROOT), "…")


def _chosen(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [re.split(r"[=<>~]", line)[0] for line in lines if line and line[0] not in "#-"]


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]
