"""The accounts of the compose file's demo: one of the IT staff, one of the help desk."""

from __future__ import annotations

from pathlib import Path

ACCOUNTS = {"itstaff": "IT staff", "helpdesk": "Help desk"}


def make_accounts(password: str) -> None:
    from django.contrib.auth.models import Group, User

    for name, group in ACCOUNTS.items():
        user, is_new = User.objects.get_or_create(username=name, defaults={"is_staff": True})
        if is_new:
            user.set_password(password)
            user.save()
            user.groups.add(Group.objects.get(name=group))


if __name__ == "__main__":
    import django

    django.setup()
    make_accounts(Path("/run/secrets/demo_password").read_text().strip())
