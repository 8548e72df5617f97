"""The groups "IT staff" and "Help desk"."""

from django.db import migrations

from backups_app.roles import make_groups


class Migration(migrations.Migration):
    dependencies = [
        ("backups_app", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
