"""The site's own settings for the clusters of the tests, with a time-out of the queue that can be short."""

import os

from qradmin.settings import *  # noqa: F403
from qradmin.settings import Q_CLUSTER

if seconds := os.environ.get("TEST_QUEUE_TIMEOUT"):
    Q_CLUSTER |= {"timeout": int(seconds), "retry": int(seconds) + 60}

# Nobody guesses passwords here, and each test logs somebody in.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
