"""Sentences of the trail in another language: known by their templates, left alone where unknown."""

from __future__ import annotations

import pytest
from django.utils import translation

from backups_app.presentation import retelling
from backups_app.presentation.retelling import Language, Template, in_words
from backups_app.sentences import say

GERMAN = Language(
    {"Nothing was changed.": "Es wurde nichts geändert.", "Restore into it": "Darin wiederherstellen"},
    (
        Template(
            "The storage location {alias} ({folder}) does not exist: create the folder.",
            "Der Speicherort {alias} ({folder}) fehlt: Legen Sie den Ordner an.",
        ),
        Template("Nothing moved in {step}.", "Im Schritt {step} bewegte sich nichts."),
        Template("{name} was not swept: {problem}", "{name} wurde nicht gefegt: {problem}"),
        Template("{who} and {who} again.", "{who} und noch einmal {who}."),
        Template("Let a superuser run {statement};", "Ein Superuser muss dies ausführen: {statement};"),
        Template("{count} objects are not ours.", "{count} Objekte gehören uns nicht."),
        Template("Run COMMIT {name}; or ROLLBACK {name};", "COMMIT {name}; oder ROLLBACK {name};"),
    ),
)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("Nothing was changed.", "Es wurde nichts geändert."),
        (
            "The storage location nas (/mnt/n) does not exist: create the folder. Nothing was changed.",
            "Der Speicherort nas (/mnt/n) fehlt: Legen Sie den Ordner an. Es wurde nichts geändert.",
        ),
        ("Nothing moved in Restore into it.", "Im Schritt Darin wiederherstellen bewegte sich nichts."),
        (
            "nas was not swept: The storage location nas (/m) does not exist: create the folder.",
            "nas wurde nicht gefegt: Der Speicherort nas (/m) fehlt: Legen Sie den Ordner an.",
        ),
        ("A program's own words. Nothing was changed.", "A program's own words. Es wurde nichts geändert."),
        ("ERROR: relation\nmissing", "ERROR: relation\nmissing"),
        (
            "Let a superuser run GRANT a TO b; Nothing was changed.",
            "Ein Superuser muss dies ausführen: GRANT a TO b; Es wurde nichts geändert.",
        ),
        (
            "Run COMMIT 'x'; or ROLLBACK 'x'; 2 objects are not ours.",
            "COMMIT 'x'; oder ROLLBACK 'x'; 2 Objekte gehören uns nicht.",
        ),
        ("ada and ada again.", "ada und noch einmal ada."),
        ("ada and bob again.", "ada and bob again."),
        ("", ""),
    ],
)
def test_a_sentence_is_told_with_its_own_names_and_figures(written: str, told: str) -> None:
    assert GERMAN.tell(written) == told


def test_an_english_reader_reads_what_was_written() -> None:
    assert in_words("The API was already stopped.") == "The API was already stopped."


@pytest.mark.parametrize("code", ["de", "de-at"])
def test_a_german_reader_reads_german(code: str) -> None:
    with translation.override(code):
        assert in_words("The API was already stopped.") == "Die API war schon gestoppt."


def test_every_sentence_of_the_catalogue_is_known_again() -> None:
    """No template may be taken for another one: that would tell a reader something else."""
    german = retelling.known("de")

    assert len(german.templates) > 150
    for template in german.templates:
        values = {name: f"«{name}»" for name in template.places}
        assert german.tell(template.written.format(**values)) == template.told.format(**values)


def test_what_is_said_is_the_template_with_its_values() -> None:
    assert (
        say("{name} is at work for {seconds} s.", name="ada", seconds=f"{3.0:g}") == "ada is at work for 3 s."
    )
