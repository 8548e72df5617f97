"""The two groups: IT staff do everything with backups, the help desk looks."""

from __future__ import annotations

from typing import Any

IT_STAFF = "IT staff"
HELP_DESK = "Help desk"


def make_groups(apps: Any, _schema_editor: Any = None) -> None:
    """Make both groups with their permissions; adds what is missing, takes nothing away.

    Called by migrations: permissions are normally made only after them.
    """
    from django.apps import apps as present_apps
    from django.contrib.auth.management import create_permissions

    create_permissions(present_apps.get_app_config("backups_app"), verbosity=0)
    permission_model = apps.get_model("auth", "Permission")
    group_model = apps.get_model("auth", "Group")
    ours = permission_model.objects.filter(content_type__app_label="backups_app")
    group_model.objects.get_or_create(name=IT_STAFF)[0].permissions.add(*ours)
    group_model.objects.get_or_create(name=HELP_DESK)[0].permissions.add(
        *ours.filter(codename__startswith="view_")
    )
