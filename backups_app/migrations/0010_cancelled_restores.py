from typing import Any

from django.db import migrations, models


def tell_the_cancelled_apart(apps: Any, schema_editor: Any) -> None:
    events = apps.get_model("backups_app", "RestoreEvent").objects.using(schema_editor.connection.alias)
    events.filter(outcome="untouched", operation__state="cancelled").update(outcome="cancelled")


def tell_them_as_failed(apps: Any, schema_editor: Any) -> None:
    events = apps.get_model("backups_app", "RestoreEvent").objects.using(schema_editor.connection.alias)
    events.filter(outcome="cancelled").update(outcome="untouched")


class Migration(migrations.Migration):
    """Restores that somebody cancelled were recorded like those that failed."""

    dependencies = [("backups_app", "0009_trials")]

    operations = [
        migrations.AlterField(
            model_name="restoreevent",
            name="outcome",
            field=models.CharField(
                choices=[
                    ("under_way", "Under way"),
                    ("restored", "Restored"),
                    ("untouched", "Failed, live data untouched"),
                    ("cancelled", "Cancelled, live data untouched"),
                    ("rolled_back", "Rolled back"),
                    ("undone", "Undone"),
                    ("unclear", "Interrupted, look at the database"),
                ],
                default="under_way",
                max_length=20,
                verbose_name="outcome",
            ),
        ),
        migrations.RunPython(tell_the_cancelled_apart, tell_them_as_failed),
    ]
