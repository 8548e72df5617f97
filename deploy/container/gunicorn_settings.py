"""How the web server runs in its container: a few processes and threads, logs like the site's own."""

import logging.config
import os

from qradmin.environment import Environment

env = Environment()
bind = "0.0.0.0:8000"
workers = env.int("WEB_PROCESSES", default=2, least=1, most=64)
worker_class = "gthread"
threads = env.int("WEB_THREADS", default=4, least=1, most=256)
timeout = 60
graceful_timeout = 20
worker_tmp_dir = "/dev/shm"  # noqa: S108 - memory: the file system may be read-only
control_socket_disable = True
max_requests = 5000
max_requests_jitter = 500
# The site reads the forwarded headers itself, and only behind a proxy (BEHIND_TLS_PROXY).
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

if env.problems:
    logging.config.dictConfig(logconfig_dict)
    used = {"WEB_PROCESSES": workers, "WEB_THREADS": threads}
    for problem in env.problems:
        sentence = "(%s) %s %s %s is used."
        told = (problem.id, problem.message, problem.hint, used.get(problem.variable, "The default"))
        logging.getLogger("gunicorn.error").error(sentence, *told)
