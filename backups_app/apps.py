"""The app, its admin site, and what is wired up when Django starts."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class SiteAdminConfig(AdminConfig):
    """The stock admin with this project's own site."""

    default_site = "backups_app.sites.BackupAdminSite"


class BackupsConfig(AppConfig):
    """Backups, restores and their audit trail."""

    name = "backups_app"
    verbose_name = "Backups"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate
        from django_q.signals import post_spawn

        logging.captureWarnings(True)
        # registered by being imported: start-up checks, and the moment of each login
        from backups_app import checks, deployment_checks, reauthentication  # noqa: F401

        post_migrate.connect(_make_schedules, sender=self, dispatch_uid="backups_app.schedules")
        post_spawn.connect(_start_beat, dispatch_uid="backups_app.beat")


def _make_schedules(**signal: Any) -> None:
    from backups_app.schedules import make_schedules

    make_schedules(**signal)


def _start_beat(**_signal: Any) -> None:
    """Each worker process shows that it lives, and looks after those that do so no more."""
    from backups_app import schedules, tasks
    from backups_app.operations import api_debts, housekeeping, liveness, sightings

    liveness.start_beat(
        housekeeping.rescue,
        api_debts.start_the_api_again,
        tasks.run_urgent,
        schedules.pull_back,
        sightings.look_now_and_then,
    )
