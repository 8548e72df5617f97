"""The web server's entry; it refuses to serve with settings that are wrong."""

import os
import sys

from django.core.wsgi import get_wsgi_application
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qradmin.settings")

APP_LOAD_ERROR = 4  # with this status a worker tells gunicorn not to try again


# After so long a page says that it could not be shown; a command or a worker may take its time.
PAGE_LIMITS = "-c statement_timeout=30s -c lock_timeout=10s"


def limit_statements() -> None:
    """Before the first connection: one table that somebody locks must not take every thread of the pages."""
    site = connections.settings["default"]
    if site["ENGINE"].endswith("postgresql"):
        site["OPTIONS"]["options"] = PAGE_LIMITS


def refuse_wrong_settings() -> None:
    """Say everything that is wrong and end; management commands do the same, but need no static files."""
    from qradmin.start import is_refused

    if is_refused(shows_pages=True):
        sys.exit(APP_LOAD_ERROR)


application = get_wsgi_application()
limit_statements()
refuse_wrong_settings()
