"""The operator's pages for each kind of record."""

from django.contrib import admin
from django_q.models import Failure, OrmQ, Schedule, Success

from backups_app.admin import backups, operations, restores

# django-q2's own pages let whoever may edit a schedule run any function; ours are narrower.
for model in (Failure, OrmQ, Schedule, Success):
    if admin.site.is_registered(model):
        admin.site.unregister(model)

__all__ = ["backups", "operations", "restores"]
