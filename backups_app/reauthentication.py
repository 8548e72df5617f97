"""Before something grave the password is asked for again, when it was last given a while ago."""

from __future__ import annotations

import time
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

SESSION_KEY = "password_given_at"


def note_password(request: HttpRequest) -> None:
    """The password was given just now."""
    request.session[SESSION_KEY] = time.time()


def is_due(request: HttpRequest) -> bool:
    """Whether the password was last given longer ago than REAUTHENTICATION_MINUTES, or never."""
    given = request.session.get(SESSION_KEY, 0.0)
    return not 0 <= time.time() - given < settings.REAUTHENTICATION_MINUTES * 60


@receiver(user_logged_in, dispatch_uid="backups_app.reauthentication")
def _after_login(request: HttpRequest | None = None, **_signal: Any) -> None:
    if request is not None and hasattr(request, "session"):
        note_password(request)


class PasswordAgain(forms.Form):
    """A form that asks for the password too, when that is due; a wrong one counts as a failed login."""

    password = forms.CharField(
        label=_("Your password, again"),
        strip=False,
        help_text=_("You logged in a while ago: this shows that it is still you."),
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        error_messages={"required": _("Your password is needed: you logged in a while ago.")},
    )

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request
        self.asks_password = is_due(request)
        if not self.asks_password:
            del self.fields["password"]

    def clean_password(self) -> str:
        name = self._request.user.get_username()
        found = authenticate(self._request, username=name, password=self.cleaned_data["password"])
        if found is None or found.pk != self._request.user.pk:
            raise forms.ValidationError(_("This is not your password: nothing was started."))
        note_password(self._request)
        return ""
