"""The trail's fixed phrases, which are written down in English, once, for everybody."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from backups_app.presentation.retelling import in_words

__all__ = ["CHECKS", "NOTES", "OUTCOMES", "STAGES", "in_words"]

STAGES = (
    gettext_noop("Check server, client program and room"),
    gettext_noop("Check the database before the API starts"),
    gettext_noop("Check that the API can be started again"),
    gettext_noop("Check the live database"),
    gettext_noop("Check the replaced database as a live database"),
    gettext_noop("Check the restored copy as a live database"),
    gettext_noop("Check the working location"),
    gettext_noop("Collect the planner's statistics"),
    gettext_noop("Compare before with after"),
    gettext_noop("Compare every copy with its record"),
    gettext_noop("Compare every row and checksum"),
    gettext_noop("Copy the site's own database"),
    gettext_noop("Count the rows of the replaced database"),
    gettext_noop("Create a fresh database"),
    gettext_noop("Dump and count in one snapshot"),
    gettext_noop("End the sessions"),
    gettext_noop("Find an intact copy"),
    gettext_noop("Look at the manifest"),
    gettext_noop("Look for a fitting pg_restore"),
    gettext_noop("Look who blocks"),
    gettext_noop("Read all of the copy"),
    gettext_noop("Read the whole archive"),
    gettext_noop("Record the present state"),
    gettext_noop("Remove what is no longer needed"),
    gettext_noop("Restore into it"),
    gettext_noop("See which locations answer"),
    gettext_noop("Start the API and wait until it is healthy"),
    gettext_noop("Stop the API"),
    gettext_noop("Swap back"),
    gettext_noop("Swap the databases"),
)
NOTES = (
    gettext_noop("Output of the migrations"),
    gettext_noop("Rows before and after"),
    gettext_noop("Started the API"),
    gettext_noop("Swapped back: the database that was live before is live again."),
    gettext_noop("The API stays stopped, as was asked by hand meanwhile."),
    gettext_noop("The API was already stopped."),
    gettext_noop("The API was not running: it stays stopped."),
    gettext_noop("The databases had been swapped: the restored one is live."),
    gettext_noop("The databases had not been swapped: the live database was not touched."),
    gettext_noop("This backup had no manifest: the restored rows are its manifest from now on."),
)
CHECKS = (
    gettext_noop("Connection"),
    gettext_noop("Migration revision"),
    gettext_noop("Required tables"),
    gettext_noop("Required columns"),
    gettext_noop("Scans without a QR code"),
    gettext_noop("Duplicate short ids"),
    gettext_noop("Invalid indexes"),
    gettext_noop("Unvalidated constraints"),
)
OUTCOMES = (gettext_noop("passed"), gettext_noop("warning"), gettext_noop("failed"), gettext_noop("skipped"))
