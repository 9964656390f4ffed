PYTHON ?= python

.PHONY: lint type test all-tests slow docs
lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
type:
	$(PYTHON) -m mypy
test:
	$(PYTHON) -m pytest -m "not slow" -n 2 --dist worksteal
all-tests:
	scripts/test_tools.sh
	$(MAKE) test PYTHON=$(PYTHON)
slow:
	$(PYTHON) -m pytest -m slow
docs:
	$(PYTHON) -m mkdocs build --strict -q -f docs/site/mkdocs.yml
