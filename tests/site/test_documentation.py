"""The documentation says what the code does: each variable with its default, each package with its reason."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from qradmin import environment
from tests.site.conftest import ROOT

DOCS = ROOT / "docs"
READERS = ("str", "choice", "bool", "int", "float", "list", "time_zone", "db_url")
SHOWN_EMPTY = "empty"


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
    settings = page.partition("## Of the container alone")[0]
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \| (.+) \|$", settings, re.MULTILINE)

    documented = {name: "" if shown == SHOWN_EMPTY else shown.strip("`") for name, shown, _ in rows}

    assert documented == defaults
    assert len(rows) == len(documented), "a variable stands twice on the page"


def test_the_example_of_an_environment_has_every_variable_with_its_default(defaults: dict[str, str]) -> None:
    example = (ROOT / ".env.example").read_text()

    entries = re.findall(r"^# (.+)\n#([A-Z0-9_]+)=(.*)$", example, re.MULTILINE)

    assert {name: value for _, name, value in entries} == defaults
    assert len(entries) == len(defaults), "a variable stands twice in the example"


def test_every_package_that_somebody_chose_has_a_reason() -> None:
    page = (DOCS / "dependencies.md").read_text()
    lists = sorted(ROOT.glob("requirements*.in"))

    for path in lists:
        _, _, section = page.partition(f": `{path.name}`\n")
        reasons = re.findall(r"^\| (\S+) \| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
        named = [name for name, _ in reasons if name not in {"package", "---"}]
        assert sorted(named, key=str.lower) == sorted(_chosen(path), key=str.lower), path.name


def test_every_page_stands_in_the_contents() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    assert sorted(_pages(nav)) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


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
