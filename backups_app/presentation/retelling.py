"""What was written down in English, told in the reader's language: each sentence is known by its template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import polib
from django.conf import settings
from django.utils.translation import get_language

WRITTEN_IN = "en"
# As `say` has them; the texts of the pages have places of another form and are never written down.
_PLACE = re.compile(r"\{(\w+)\}")
# A statement to run ends with a semicolon, as a sentence's last word.
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=;)\s+(?=[A-Z0-9])")


@dataclass(frozen=True)
class Template:
    """A sentence with places for names and figures, as it is written down and as it is told."""

    written: str
    told: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What stands before, between and behind the places."""
        return tuple(_PLACE.split(self.written)[::2])

    @cached_property
    def places(self) -> tuple[str, ...]:
        return tuple(_PLACE.findall(self.written))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Each place takes anything; one that stands twice takes the same twice."""
        parts = [re.escape(self.words[0])]
        for number, name in enumerate(self.places):
            again = name in self.places[:number]
            parts += [f"(?P={name})" if again else f"(?P<{name}>.*?)", re.escape(self.words[number + 1])]
        return re.compile("".join(parts), re.DOTALL)

    def values(self, text: str) -> dict[str, str] | None:
        """What stands in the places of ``text``; None when it is another sentence."""
        if not (text.startswith(self.words[0]) and text.endswith(self.words[-1])):
            return None
        found = self.pattern.fullmatch(text)
        return found and found.groupdict()


@dataclass(frozen=True)
class Language:
    """What can be told in a language: texts without a place, and templates, the most telling ones first."""

    fixed: dict[str, str]
    templates: tuple[Template, ...]

    def tell(self, text: str) -> str:
        """``text`` sentence by sentence; one that is not known stays as it was written."""
        breaks = list(_BETWEEN_SENTENCES.finditer(text))
        if text in self.fixed:
            return self.fixed[text]
        for gap in breaks:
            if (head := self._told(text[: gap.start()])) is not None:
                return head + gap[0] + self.tell(text[gap.end() :])
        if (whole := self._told(text)) is not None:
            return whole
        return text[: breaks[0].end()] + self.tell(text[breaks[0].end() :]) if breaks else text

    def _told(self, sentence: str) -> str | None:
        if (fixed := self.fixed.get(sentence)) is not None:
            return fixed
        for template in self.templates:
            values = template.values(sentence)
            if values is not None:
                # A single word is a name; several may be a sentence within this one.
                told = {name: self.tell(value) if " " in value else value for name, value in values.items()}
                return template.told.format(**told)
        return None


def in_words(text: str) -> str:
    """``text`` of the trail in the reader's language, as far as it is known there."""
    language = (get_language() or WRITTEN_IN).partition("-")[0]
    return text if language == WRITTEN_IN else _in_words(language, text)


@lru_cache(maxsize=2048)
def _in_words(language: str, text: str) -> str:
    return known(language).tell(text)


@lru_cache
def known(language: str) -> Language:
    """Read from the compiled catalogue; nothing where there is none."""
    file = Path(settings.LOCALE_PATHS[0]) / language / "LC_MESSAGES" / "django.mo"
    entries = polib.mofile(str(file)) if file.is_file() else []
    told = {entry.msgid: entry.msgstr for entry in entries if entry.msgstr and not entry.msgctxt}
    templates = [Template(*pair) for pair in told.items() if _PLACE.search(pair[0])]
    telling = sorted(templates, key=lambda one: -sum(map(len, one.words)))
    return Language(told, tuple(telling))
