"""What a choice is called, in the reader's language."""

from __future__ import annotations

from django.db.models import TextChoices


def label_of(choices: type[TextChoices], value: str) -> str:
    """The same as Django's ``get_..._display``, which translates every other choice, too, each time.

    A value that this version does not know is its own label.
    """
    try:
        return str(choices(value).label)
    except ValueError:
        return value
