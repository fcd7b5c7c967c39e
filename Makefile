PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

DOCUMENTED := .venv/.documented

.PHONY: help demo test test-slow lint notebooks docs lab bench bench-estimators bench-speed bench-papers bench-scale clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(INSTALLED)  ## fit every example, compare it with its exact posterior; pictures go to out/
	$(BIN)/credo demo --out out

# Two processes, each with whole files: one compiled step serves a whole file.
test: $(INSTALLED)  ## the tests, without the slow ones
	$(BIN)/pytest -n 2 --dist loadfile

# pytest exits with 5 when it finds no test: having no slow test is not a failure.
test-slow: $(INSTALLED)  ## the slow tests only
	$(BIN)/pytest -m slow || [ $$? -eq 5 ]

# mypy cannot follow an editable install whose folders are mapped, so it checks a plain install, and runs inside it:
# from the root it would find credo/ without the other folders. credo/models/x.py in its messages is models/x.py.
# A stale build/ would bring back deleted modules.
lint: $(INSTALLED)  ## ruff and mypy
	@rm -rf build .venv/plain
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target .venv/plain .
	@rm -rf build
	cd .venv/plain && ../bin/mypy --config-file ../../setup.cfg --cache-dir ../../.mypy_cache -p credo

notebooks: $(INSTALLED)  ## run every notebook as it is shown; nothing is written into them
	$(BIN)/pytest --nbmake --nbmake-timeout=300 notebooks tests/test_layout.py::test_notebooks_hold_no_output

# -j 2: pages and notebooks are executed two at a time, each once; docs/_build keeps them for the next time.
docs: $(DOCUMENTED)  ## the site, in docs/_build/html; a warning is an error
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W --keep-going -j 2 -b html docs docs/_build/html
	@$(BIN)/python docs/check_site.py docs/_build/html
	@echo "open docs/_build/html/index.html, or serve it: $(BIN)/python -m http.server -d docs/_build/html 8000"

lab: $(DOCUMENTED)  ## open the lecture and the other notebooks in JupyterLab; LAB="--no-browser" passes options on
	$(BIN)/jupyter lab $(LAB) notebooks/lecture.ipynb

bench: $(INSTALLED)  ## run the benchmarks, one after the other; not the hours of bench-papers and bench-scale
	@for program in benchmarks/[!_]*.py; do \
	    [ -e "$$program" ] && [ "$$program" != benchmarks/papers.py ] && [ "$$program" != benchmarks/scale.py ] || continue; \
	    echo "== $$program"; \
	    $(BIN)/python "$$program" || exit 1; \
	done

bench-estimators: $(INSTALLED)  ## compare the plans with the best choices in Pyro; some 40 minutes
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/estimators.py

# make bench runs it too, and without NumPyro if this has not installed it.
bench-speed: $(INSTALLED)  ## time a step of credo, Pyro, torch and NumPyro, warm and cold
	$(BIN)/pip install --quiet -c constraints.txt -e ".[bench]"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py

# SCALE="--quick --only rows,equal" passes options on.
bench-scale: $(INSTALLED)  ## data larger than memory and several processes: steps, memory, throughput, restarts
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scale.py $(SCALE)

# CREDO_DATA=folder names the data sets. It goes on where it was stopped; PAPERS="--only uci/ --jobs 2" passes options on.
bench-papers: $(INSTALLED)  ## Bayesian networks at full size beside the published tables; hours on a CPU
	$(BIN)/python benchmarks/papers.py $(PAPERS)

clean:  ## remove what was built or cached; the environment .venv stays
	rm -rf build dist out docs/_build docs/notebooks *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first, so that its build can be chosen (docs/install.md): on Linux the default brings gigabytes of CUDA packages.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt .ci/link.py
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "credo needs Python 3.11 or newer with venv, and '$(PYTHON)' is not that: try 'apt install python3-venv', or 'make PYTHON=/path/to/python3'." >&2; \
	    exit 1; }
	@echo "Installing into .venv: minutes the first time."
	@$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test]"
	@$(BIN)/python .ci/link.py
	@touch $@

$(DOCUMENTED): $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs,notebooks]"
	@$(BIN)/python .ci/link.py
	@touch $@
