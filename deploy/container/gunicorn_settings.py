"""How the web server runs in its container: a few processes and threads, logs like the site's own."""

import os
import sys


def _number(name: str, text: str, otherwise: int) -> int:
    if text.strip().isdecimal() and int(text) > 0:
        return int(text)
    print(f"{name} is {text!r}: it has to be a whole number. {otherwise} is used.", file=sys.stderr)
    return otherwise


bind = "0.0.0.0:8000"
workers = _number("WEB_PROCESSES", os.environ.get("WEB_PROCESSES", "2"), 2)
worker_class = "gthread"
threads = _number("WEB_THREADS", os.environ.get("WEB_THREADS", "4"), 4)
timeout = 60
graceful_timeout = 20
worker_tmp_dir = "/dev/shm"  # noqa: S108 - memory: the file system may be read-only
control_socket_disable = True
max_requests = 5000
max_requests_jitter = 500
# Only the proxy in front can reach this port; the site reads the forwarded headers itself.
forwarded_allow_ips = ""
_format = os.environ.get("LOG_FORMAT", "json").lower()
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "lines": {"()": "qradmin.logs.TextLines" if _format == "text" else "qradmin.logs.JsonLines"}
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"gunicorn.error": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
