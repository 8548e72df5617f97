"""The container's own health check: asks an address, by default whether the site is ready; status 0 or 1."""

import sys
import urllib.request

URL = "http://127.0.0.1:8000/health/ready"

if __name__ == "__main__":
    try:
        with urllib.request.urlopen(sys.argv[1] if sys.argv[1:] else URL, timeout=5):
            sys.exit(0)
    except OSError as error:
        sys.exit(f"not ready: {error}")
