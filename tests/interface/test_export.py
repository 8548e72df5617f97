"""The audit history as a file: what a spreadsheet makes of it is text, and nothing of it is run."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import Client

from tests.interface.conftest import make_operation

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "reason",
    ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "\n \n=1", "  =1", "＝1", "\u200b=1", "\n+1", "\tx"],
)
def test_no_cell_of_the_export_is_run_as_a_formula(staff: Client, reason: str) -> None:
    make_operation("restore", reason=reason)

    answer = staff.get("/backups_app/operation/export/")

    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["reason"] == "'" + reason


@pytest.mark.parametrize("reason", ["x;=1", "x\n=1", 'x";=1', "a - b"])
def test_every_cell_of_the_export_is_quoted_whole(staff: Client, reason: str) -> None:
    """A spreadsheet that splits at semicolons must not make a new cell of a text's second half."""
    make_operation("restore", reason=reason)

    answer = staff.get("/backups_app/operation/export/")

    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["reason"] == reason
    assert ',"' + reason.replace('"', '""') + '",' in text
