# Everything a developer types. Each target makes the virtual environment it needs by itself.

PYTHON ?= python3
JOBS ?= 4
ARGS ?=

# The tests' temporary files lie in memory where there is plenty of it.
PYTEST = .venv/bin/python -m tests.in_memory .venv/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes
# Enough of a configuration to load the settings; nothing is connected to.
FOR_CHECKS = mkdir -p var && SECRET_KEY=only-for-checks-0123456789-0123456789 DEBUG=True DATABASE_URL=sqlite:///$(CURDIR)/var/checks.sqlite3 \
	MANAGED_DATABASE_URL=postgresql://nobody:nothing@127.0.0.1:1/qrdb BACKUP_LOCATIONS=working=$(CURDIR)/var/checks

.PHONY: help demo demo-check test test-postgresql test-containers bench screenshots messages lint docs runbooks audit lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        start the site with a sample database on this machine; Ctrl-C stops it"
	@echo "make demo-check  back up, validate, delete, restore, undo: the whole circle, checked by itself"
	@echo "make test        run the tests (ARGS='-k restore' for some of them)"
	@echo "make test-postgresql  those of them that use the site's own database, on PostgreSQL 16 and 18"
	@echo "make test-containers  build the image and try the compose file on a Docker Engine of its own"
	@echo "make bench       measure ours beside the old way (SCALE=small takes under 3 minutes)"
	@echo "make screenshots  take the pictures of the README and the docs anew, in a real browser"
	@echo "make messages    collect the texts for the translations, and compile what is translated"
	@echo "make lint        format, style, types, imports, migrations"
	@echo "make docs        build the documentation into site/"
	@echo "make runbooks    make docs/runbooks.md from the site's own runbooks"
	@echo "make audit       compare the pinned packages with the lists of known weaknesses"
	@echo "make lock        pin the requirements anew"
	@echo "make clean       remove the virtual environment, the demo's data and all caches"

demo: .venv/.demo
	@.venv/bin/python -m deploy.demo.run

demo-check: .venv/.demo
	@.venv/bin/python -m deploy.demo.check

test: .venv/.dev
	@$(PYTEST)

# All tests but those that never open the site's own database, and the demo's, which has one of its own.
test-postgresql: .venv/.dev
	@for major in 16 18; do \
		SITE_POSTGRES=$$major $(PYTEST) -q tests/operations tests/interface tests/site tests/end_to_end || exit 1; \
	done

test-containers: .venv/.dev
	@.venv/bin/python -m pytest tests/deployment $(ARGS)

bench: .venv/.demo
	@.venv/bin/python -m deploy.bench.run

screenshots: .venv/.dev
	@.venv/bin/python -m deploy.screenshots.run

# Sorted by message and without places: a catalogue changes only where a text does.
messages: .venv/.dev
	@$(FOR_CHECKS) .venv/bin/python manage.py makemessages --locale de --no-obsolete --no-location \
		--ignore .venv --ignore tests --ignore deploy
	@msgattrib --sort-output --no-obsolete --output-file=locale/de/LC_MESSAGES/django.po locale/de/LC_MESSAGES/django.po
	@$(FOR_CHECKS) .venv/bin/python manage.py compilemessages --locale de --ignore .venv

lint: .venv/.dev
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@$(FOR_CHECKS) .venv/bin/mypy .
	@.venv/bin/lint-imports
	@$(FOR_CHECKS) .venv/bin/python manage.py makemigrations --check --dry-run

docs: .venv/.docs
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --quiet --strict
	@! grep -rlE '<(script|link|img|iframe|source)[^>]+(src|href)="?(https?:)?//' site --include='*.html' || { \
		echo "These pages would fetch something from a third party."; exit 1; }
	@echo "The documentation is in site/index.html."

runbooks: .venv/.dev
	@$(FOR_CHECKS) .venv/bin/python -m deploy.runbook_pages

audit: .venv/.audit
	@for list in requirements requirements-demo requirements-dev requirements-docs; do \
		found=$$(.venv/audit/bin/pip-audit --disable-pip --require-hashes --progress-spinner=off -r $$list.txt 2>&1); \
		status=$$?; \
		case "$$found" in \
		*"Found "[0-9]*" known vulnerabilit"*) echo "$$list.txt: $$found"; exit 1 ;; \
		*"could not be audited"*|*ConnectionError*) \
			echo "$$list.txt: not audited, as the lists of known weaknesses do not answer here." ;; \
		*) echo "$$list.txt: $$found"; exit $$status ;; \
		esac; \
	done

lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/"; exit 1; }
	@for name in requirements requirements-demo requirements-dev requirements-docs requirements-audit; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			$$name.in -o $$name.txt || exit 1; \
	done

clean:
	@if [ -d var/demo ]; then \
		if [ -x .venv/bin/python ]; then .venv/bin/python -m deploy.demo.clean; \
		else $(PYTHON) -m deploy.demo.clean; fi; fi
	@rm -rf .venv staticfiles site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "Python's venv module is missing: install it (Debian and Ubuntu: apt install python3-venv)."; exit 1; }
	@echo "Making the virtual environment .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.demo: .venv/.made requirements-demo.txt
	@echo "Installing what the site and the demo need"
	@$(PIP) -r requirements-demo.txt
	@touch $@

.venv/.dev: .venv/.made requirements-dev.txt
	@echo "Installing what the tests need"
	@$(PIP) -r requirements-dev.txt
	@touch $@

# Apart from the rest, so that what they need cannot get in its way.
.venv/.docs: .venv/.made requirements-docs.txt
	@$(PYTHON) -m venv .venv/docs
	@.venv/docs/bin/pip --disable-pip-version-check install --quiet --require-hashes -r requirements-docs.txt
	@touch $@

.venv/.audit: .venv/.made requirements-audit.txt
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/pip --disable-pip-version-check install --quiet --require-hashes -r requirements-audit.txt
	@touch $@
