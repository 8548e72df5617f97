"""``make demo``: the site with a sample database on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.demo.asking import take_first_backup
from deploy.demo.embedded import StartError
from deploy.demo.place import USUAL, InUseError, Place
from deploy.demo.stack import ACCOUNTS, DemoError, Stack, StopAsked, Wish, running


def main(folder: Path = USUAL) -> int:
    place, wish = Place(folder), Wish()
    try:
        with place.alone(), running(place, wish, say, port=_port()) as stack:
            if name := take_first_backup(stack, wish):
                say(f"Took the first backup: {name}")
            show(stack, place)
            while True:
                stack.check()
                wish.sleep(1)
    except StopAsked:
        say("Stopped; `make demo` goes on from here.")
        return 0
    except (DemoError, InUseError, StartError) as error:
        print(error, file=sys.stderr)
        return 1


def say(text: str) -> None:
    print(text, flush=True)


def show(stack: Stack, place: Place) -> None:
    say("")
    say(f"    {stack.address}")
    for name, group in ACCOUNTS.items():
        say(f"    {name:9} {stack.passwords[name]:18} {group}")
    say("")
    say("The QR system's database, to lose something on purpose:")
    say(f"    {stack.psql}")
    say("")
    say(f"Data, backups and logs are in {place.folder}. Ctrl-C stops everything.")


def _port() -> int | None:
    text = os.environ.get("PORT", "")
    if text and not (text.isdigit() and 0 < int(text) < 65536):
        raise DemoError(f"PORT must be a number between 1 and 65535, not {text!r}.")
    return int(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
