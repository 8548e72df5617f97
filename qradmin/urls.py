"""The site's addresses: the admin is the whole site."""

from django.contrib import admin
from django.urls import include, path

handler400 = "backups_app.refusals.bad_request"
handler403 = "backups_app.refusals.forbidden"
handler404 = "backups_app.refusals.not_found"

urlpatterns = [
    path("i18n/", include("django.conf.urls.i18n")),
    path("", admin.site.urls),
]
