from django.db import migrations, models
from django.utils import timezone


class Migration(migrations.Migration):
    """The newest operations, those of one kind, and those of one kind and state, without sorting: the indexes
    go by time and by the row's number, as the lists do, which SQLite has in every index."""

    dependencies = [("backups_app", "0011_api_sightings")]

    operations = [
        migrations.RemoveIndex(model_name="operation", name="backups_app_kind_21ba99_idx"),
        migrations.AlterField(
            model_name="operation",
            name="created_at",
            field=models.DateTimeField(default=timezone.now, verbose_name="asked for"),
        ),
        migrations.AddIndex(
            model_name="operation", index=models.Index(fields=["created_at", "id"], name="by_time")
        ),
        migrations.AddIndex(
            model_name="operation", index=models.Index(fields=["kind", "created_at"], name="by_kind")
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(fields=["kind", "state", "created_at"], name="by_kind_and_state"),
        ),
    ]
