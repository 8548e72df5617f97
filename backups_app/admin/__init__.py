"""The operator's pages for each kind of record."""

from django.contrib import admin
from django_q import admin as pages_of_the_queue
from django_q.models import Failure, OrmQ, Schedule, Success

from backups_app.admin import backups, operations, restores, users

# django-q2's own pages let whoever may edit a schedule run any function; ours are narrower. They are imported
# here, and so registered, before they are taken away: its app comes after ours.
for model in (Failure, OrmQ, Schedule, Success):
    if admin.site.is_registered(model):
        admin.site.unregister(model)

__all__ = ["backups", "operations", "pages_of_the_queue", "restores", "users"]
