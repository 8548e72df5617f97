"""What an operator types before something grave, checked on the server."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from backups_app import schedules
from backups_app.reauthentication import PasswordAgain

REASON_LENGTH = 500


class LinesField(forms.CharField):
    """Several lines. A browser counts a line break as one character and sends two.

    What is too long comes back with a word about it, instead of being cut off as it is pasted.
    """

    widget = forms.Textarea
    default_error_messages = {
        "max_length": _("This is too long: %(show_value)d characters; at most %(limit_value)d."),
    }

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text.replace("\r\n", "\n") if text else text

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return {name: value for name, value in super().widget_attrs(widget).items() if name != "maxlength"}


class TimingForm(forms.Form):
    """When a schedule runs. An hourly one can only be paused."""

    at = forms.TimeField(
        label=_("Time of day"),
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
        error_messages={"invalid": _("A time of day is needed, such as 04:00.")},
    )
    days = forms.MultipleChoiceField(
        label=_("Days of the week"),
        choices=list(schedules.DAYS.items()),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("At least one day is needed. To stop it for a while, pause it.")},
    )
    is_paused = forms.BooleanField(
        label=_("Paused"), required=False, help_text=_("It does not run until somebody resumes it.")
    )

    def __init__(self, data: Any, *, timing: schedules.Timing) -> None:
        super().__init__(data, initial={"at": timing.at, "days": timing.days, "is_paused": timing.is_paused})
        if timing.at is None:
            del self.fields["at"], self.fields["days"]

    def timing(self) -> schedules.Timing:
        """What was chosen, once ``is_valid()``."""
        chosen = self.cleaned_data.get("days", schedules.EVERY_DAY)
        at = self.cleaned_data.get("at")
        return schedules.Timing(
            at=at.replace(second=0, microsecond=0) if at else None,
            days=tuple(day for day in schedules.DAYS if day in chosen),
            is_paused=self.cleaned_data["is_paused"],
        )


class ReasonForm(forms.Form):
    """A reason for the audit history."""

    reason: forms.CharField = LinesField(
        label=_("Reason"),
        max_length=REASON_LENGTH,
        help_text=_("It stands in the audit history, for everyone to read."),
        widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={"required": _("A reason is needed: it stands in the audit history.")},
    )


class TypedForm(PasswordAgain, ReasonForm):
    """A word has to be typed exactly, and a reason given; the password too when that is due."""

    field_order = ("typed", "reason")

    typed = forms.CharField(
        label=_("Type to confirm"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_typed(self) -> str:
        typed = str(self.cleaned_data["typed"]).strip()
        if typed != self.expected:
            raise forms.ValidationError(
                _("This is not %(expected)s: type it exactly, or copy it."),
                params={"expected": self.expected},
            )
        return typed


class RestoreForm(TypedForm):
    """The restore of one backup."""

    run_migrations = forms.BooleanField(
        label=_("Run the migrations afterwards"),
        required=False,
        help_text=_("Brings the restored database to the API's newest revision, in the API's container."),
    )
    without_safety_backup = forms.BooleanField(
        label=_("Continue without a safety backup"),
        required=False,
        help_text=_(
            "Only when the live database can no longer be dumped. What is live now is then kept nowhere"
            " but in the replaced database, and an undo is the only way back."
        ),
    )

    def __init__(self, *args: Any, offers_migrations: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not offers_migrations:
            del self.fields["run_migrations"]


class PinForm(ReasonForm):
    """Why a backup is never removed."""

    reason = forms.CharField(
        label=_("Why it is kept for good"),
        max_length=200,
        error_messages={"required": _("A reason is needed: others see why it is kept.")},
    )


class NoteForm(forms.Form):
    """A note about a restore; it can be added, never changed."""

    text = LinesField(
        label=_("Note"),
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": _("Write something first.")},
    )
