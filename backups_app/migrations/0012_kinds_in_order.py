from django.db import migrations, models


class Migration(migrations.Migration):
    """The last operations of one kind, and of one kind and state, without sorting: the indexes ascend, as
    a list of the newest first goes by the row's number where two have the same time."""

    dependencies = [("backups_app", "0011_api_sightings")]

    operations = [
        migrations.RemoveIndex(model_name="operation", name="backups_app_kind_21ba99_idx"),
        migrations.AddIndex(
            model_name="operation", index=models.Index(fields=["kind", "created_at"], name="by_kind")
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(fields=["kind", "state", "created_at"], name="by_kind_and_state"),
        ),
    ]
