"""The people and their groups, on forms that everybody can use."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backups_app.admin.lists import CarefulLists

STOCK_ACTIONS = {
    "add": _("Can add"),
    "change": _("Can change"),
    "delete": _("Can delete"),
    "view": _("Can view"),
}

admin.site.unregister([User, Group])


class PlainChoices(CarefulLists):
    """Check boxes: the stock chooser of two lists has icons that no screen reader is told of."""

    def formfield_for_manytomany(
        self, db_field: Any, request: HttpRequest | None = None, **options: Any
    ) -> Any:
        return super().formfield_for_manytomany(
            db_field,
            request,  # type: ignore[arg-type]
            widget=forms.CheckboxSelectMultiple,
            **options,
        )


@admin.register(User)
class PersonAdmin(PlainChoices, UserAdmin):  # type: ignore[type-arg]
    """What somebody may do comes from the groups alone; who was here when is read, not written."""

    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )


@admin.register(Group)
class RoleAdmin(PlainChoices, GroupAdmin):
    """The permissions of this site and of its accounts, without those of its inner workings."""

    def formfield_for_manytomany(
        self, db_field: Any, request: HttpRequest | None = None, **options: Any
    ) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **options)
        field.queryset = field.queryset.filter(content_type__app_label__in=("auth", "backups_app"))
        field.label_from_instance = _label
        return field


def _label(permission: Permission) -> str:
    """What it is about, and what it allows, in the reader's language."""
    about = permission.content_type
    stock = {f"{action}_{about.model}": text for action, text in STOCK_ACTIONS.items()}
    return f"{about.name}: {stock.get(permission.codename) or gettext(permission.name)}"
