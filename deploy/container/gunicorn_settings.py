"""How the web server runs in its container: one process, some threads, logs like the site's own."""

import os

bind = "0.0.0.0:8000"
workers = int(os.environ.get("WEB_PROCESSES", "2"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "4"))
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
