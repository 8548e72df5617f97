"""The web server's entry; it refuses to serve with settings that are wrong."""

import os
import sys

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qradmin.settings")

APP_LOAD_ERROR = 4  # with this status a worker tells gunicorn not to try again


def refuse_wrong_settings() -> None:
    """Say everything that is wrong and end; the management commands do the same by themselves."""
    from django.core.checks import ERROR, run_checks

    wrong = [message for message in run_checks() if message.level >= ERROR and not message.is_silenced()]
    for message in wrong:
        sys.stderr.write(f"({message.id}) {message.msg} {message.hint or ''}\n")
    if wrong:
        sys.exit(APP_LOAD_ERROR)


application = get_wsgi_application()
refuse_wrong_settings()
