from django.db import migrations, models


class Migration(migrations.Migration):
    """The workers write down how the API's container is, so that no page has to ask Docker."""

    dependencies = [("backups_app", "0010_cancelled_restores")]

    operations = [
        migrations.CreateModel(
            name="ApiSighting",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("container", models.CharField(max_length=300, unique=True)),
                ("at", models.DateTimeField()),
                ("is_there", models.BooleanField(default=False)),
                ("is_running", models.BooleanField(default=False)),
                ("health", models.CharField(blank=True, max_length=100)),
                ("problem", models.TextField(blank=True)),
            ],
            options={"default_permissions": ()},
        ),
    ]
