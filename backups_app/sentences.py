"""Sentences with names and figures in them: written down in English, told in the reader's language later."""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.utils import translation


def say(template: str, **values: object) -> str:
    """The English sentence: ``template`` with each ``{name}`` filled in.

    The template is a plain literal, so that ``make messages`` finds it for the translations; what a figure
    looks like is decided before (``say("It took {seconds} s.", seconds=f"{seconds:.1f}")``).
    """
    return template.format(**values)


def in_english() -> AbstractContextManager[None]:
    """For the time of a block that writes rows: what is stored is one language for everybody."""
    return translation.override("en")
