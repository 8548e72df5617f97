"""`make runbooks`: docs/runbooks.md from the site's own runbooks, so that both say the same."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backups_app.presentation.runbooks import Runbook

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "runbooks.md"
LEAD = """# Runbooks

What to do, step by step, in the words of the site's own pages. There each page also shows how things stand
now, what was looked at just now, whom to call, and the buttons it speaks of: open the tab **Runbooks**. This
page is for the day on which the site cannot be opened; print it. When the site itself is lost, go on with
[When the site itself is lost](disaster-recovery.md).

Made from the pages by `make runbooks`.
"""
BUTTONS = {
    "admin/runbooks/backup.html": "Back up now",
    "admin/qradmin/back_up_now.html": "Back up now",
    "admin/runbooks/validate.html": "Validate the database",
}


def page() -> str:
    """The whole page."""
    from backups_app.presentation import runbooks

    titles = {runbook.slug: str(runbook.title) for runbook in runbooks.ALL}
    return LEAD + "".join(_section(runbook, titles) for runbook in runbooks.ALL)


def _section(runbook: Runbook, titles: dict[str, str]) -> str:
    template = (ROOT / "templates" / runbook.template).read_text()
    steps = template.partition("{% block steps %}")[2].partition("{% endblock %}")[0]
    lines = [
        f"{number}. {_words(step, titles)}\n"
        for number, step in enumerate(re.findall(r"<li>(.*?)</li>", steps, re.DOTALL), start=1)
    ]
    return f"\n## {runbook.title}\n\n*{runbook.when}*\n\n{''.join(lines)}"


def _words(step: str, titles: dict[str, str]) -> str:
    """One step as Markdown: bold words, links between runbooks, buttons by their names."""
    text = re.sub(
        r"\{% include \"([^\"]+)\"[^%]*%\}",
        lambda found: f"*Button: {BUTTONS.get(found[1], found[1])}.*",
        step,
    )
    text = re.sub(
        r"<a href=\"\{% url \"admin:runbook\" \"([\w-]+)\" %\}\">(.*?)</a>",
        lambda found: f"[{found[2]}](#{_anchor(titles[found[1]])})",
        text,
    )
    text = re.sub(r"<a [^>]*class=\"act[^>]*>(.*?)</a>", r"*Button: \1.*", text)
    text = re.sub(r"<a [^>]*>(.*?)</a>", r"*Page: \1.*", text)
    text = re.sub(r"\{% (?:blocktranslate|translate) \"([^\"]*)\" %\}", r"\1", text)
    text = re.sub(r"</?strong>", "**", text)
    return " ".join(re.sub(r"\{%.*?%\}|<[^>]+>", "", text).split())


def _anchor(title: str) -> str:
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-")


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qradmin.settings")
    django.setup()
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is made.\n")
