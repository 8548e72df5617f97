"""The site's own admin."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.utils.translation import gettext_lazy as _


class BackupAdminSite(AdminSite):
    """The stock admin under this project's name."""

    site_header = _("QR backup admin")
    site_title = _("QR backup admin")
    index_title = _("Overview")
    enable_nav_sidebar = False
