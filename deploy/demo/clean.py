"""Remove the demo's data: ``python -m deploy.demo.clean``; needs nothing but Python itself."""

from __future__ import annotations

import sys

from deploy.demo.place import USUAL, InUseError, Place


def main() -> int:
    if not USUAL.exists():
        return 0
    place = Place(USUAL)
    try:
        with place.alone():
            place.forget()
    except InUseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
