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
ON_ITS_MACHINE = "Where the site does not manage the API, on its machine:"
# What stands for a part of a page on paper.
PARTS = {
    "admin/runbooks/backup.html": "*Button: Back up now.*",
    "admin/runbooks/full_backup.html": "*Button: Back up now.*",
    "admin/runbooks/validate.html": "*Button: Validate the database.*",
    "admin/runbooks/secure.html": "*Buttons: Prove, Pin….*",
    "admin/runbooks/pinned.html": "*Button: Restore….*",
    "admin/runbooks/to_try.html": "*Button: Trial database.*",
    "admin/runbooks/trials.html": "",
    "admin/runbooks/import.html": "*Button: Import….*",
    "admin/runbooks/stop_api.html": f"*Button: Stop the API.* {ON_ITS_MACHINE} `docker compose stop api`",
    "admin/runbooks/start_api.html": f"*Button: Start the API.* {ON_ITS_MACHINE} `docker compose start api`",
    "admin/runbooks/migrate.html": (
        f"*Button: Run the migrations.* {ON_ITS_MACHINE} `docker compose exec api alembic upgrade head`"
    ),
}
RECIPE = re.compile(r"\{% include \"admin/runbooks/recipe\.html\" with recipe=recipes\.(\w+) %\}")


def page() -> str:
    """The whole page."""
    from backups_app.presentation import runbooks

    titles = {runbook.slug: str(runbook.title) for runbook in runbooks.ALL}
    return LEAD + "".join(_section(runbook, titles) for runbook in runbooks.ALL)


def _section(runbook: Runbook, titles: dict[str, str]) -> str:
    template = (ROOT / "templates" / runbook.template).read_text()
    steps = template.partition("{% block steps %}")[2].partition("{% endblock %}")[0]
    lines = [
        f"{number}. {_words(step, titles)}\n{_recipes(step)}"
        for number, step in enumerate(re.findall(r"<li>(.*?)</li>", steps, re.DOTALL), start=1)
    ]
    return f"\n## {runbook.title}\n\n*{runbook.when}*\n\n{''.join(lines)}"


def _words(step: str, titles: dict[str, str]) -> str:
    """One step as Markdown: bold words, links between runbooks, buttons by their names."""
    text = RECIPE.sub("", step)
    text = re.sub(r"\{% include \"([^\"]+)\"[^%]*%\}", lambda found: PARTS[found[1]], text)
    text = re.sub(
        r"<a href=\"\{% url \"admin:runbook\" \"([\w-]+)\" %\}\">(.*?)</a>",
        lambda found: f"[{found[2]}](#{_anchor(titles[found[1]])})",
        text,
    )
    text = re.sub(r"<a [^>]*>(.*?)</a>", r"*Page: \1.*", text)
    text = re.sub(r"\{% (?:blocktranslate|translate) \"([^\"]*)\" %\}", r"\1", text)
    text = text.replace("{{ api_container }}", "qr_generator_api")
    text = re.sub(r"</?strong>", "**", text)
    text = re.sub(r"</?code>", "`", text)
    return " ".join(re.sub(r"\{%.*?%\}|<[^>]+>", "", text).split())


def _recipes(step: str) -> str:
    """The commands that a step has, as code inside its point of the list."""
    from backups_app.presentation import recipes

    found = [getattr(recipes, name)(recipes.Place()) for name in RECIPE.findall(step)]
    lines = [
        line
        for recipe in found
        for part in recipe.parts
        for line in ("", f"    {part.text}", "", *(f"        {one}" for one in part.commands.splitlines()))
    ]
    return "\n".join([*lines, "", ""]) if lines else ""


def _anchor(title: str) -> str:
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-")


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qradmin.settings")
    django.setup()
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is made.\n")
