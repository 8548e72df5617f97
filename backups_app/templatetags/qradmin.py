"""Tags and filters of the operator's pages."""

from __future__ import annotations

import json
from typing import Any

from django import template

from backups_app.presentation import retelling, words

register = template.Library()

register.filter("moment", words.moment)
register.filter("clock", words.clock)
register.filter("age", words.age)
register.filter("duration", words.duration)
register.filter("size", words.size)
register.filter("number", words.number)
register.filter("in_words", retelling.in_words)
register.filter("outcome", words.outcome)
register.filter("amount_done", words.amount_done)
register.filter("at_joints", words.at_joints)
register.filter("at_underscores", words.at_underscores)


@register.filter
def state_badge(row: Any) -> str:
    """The state of a record as text with a tone."""
    return words.badge(words.state_of(row))


@register.filter
def pretty(value: Any) -> str:
    """A detail of the trail as a person reads it: output as it came, the rest as indented JSON."""
    if isinstance(value, dict) and set(value) == {"output", "exit_code"}:
        return str(value["output"])
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def without_seconds(detail: dict[str, Any]) -> dict[str, Any]:
    """The detail that is not shown as a duration already."""
    return {name: value for name, value in detail.items() if name != "seconds"}
