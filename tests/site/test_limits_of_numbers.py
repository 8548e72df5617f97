"""Every number that is set has a least and a most: what is too large is named instead of failing later."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from qradmin import environment
from tests.site.conftest import ROOT, Run

Limits = dict[str, tuple[float, float]]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Every variable that is a number, with its least and its most."""
    found: Limits = {}
    for name in ("int", "float"):
        monkeypatch.setattr(environment.Environment, name, _noting(name, found))
    monkeypatch.setattr(environment.Environment, "ENVIRON", {"ENV_FILE": ""})

    runpy.run_path(str(ROOT / "qradmin" / "settings.py"))

    assert len(found) > 15, "the settings were not seen to read the environment"
    return found


def _noting(name: str, found: Limits) -> Callable[..., Any]:
    original = getattr(environment.Environment, name)

    def read(self: Any, var: str, **words: Any) -> Any:
        found[var] = (words.get("least", 0), words["most"])
        return original(self, var, **words)

    return read


def test_a_number_that_is_too_large_is_named_for_each_variable(run: Run, limits: Limits) -> None:
    checked = run("manage.py", "check", **{name: str(int(most) + 1) for name, (_, most) in limits.items()})

    assert "Traceback" not in checked.stderr
    assert [name for name in limits if f"(qradmin.E035) {name} is " not in checked.stderr] == []


def test_the_largest_numbers_are_fit_for_use(limits: Limits) -> None:
    units = ("_DAYS", "_HOURS", "_MINUTES", "_SECONDS", "_LIMIT")
    ages = {name: most for name, (_, most) in limits.items() if name.endswith(units)}
    now = timezone.now()

    assert len(ages) > 10
    for name, most in ages.items():
        age = timedelta(**{name.rpartition("_")[2].lower().replace("limit", "seconds"): most})
        assert now - age < now < now + age, name
