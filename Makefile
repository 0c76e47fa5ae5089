# make demo    a dataset from a small language model on this machine, printed as a table
# make test    everything: static checks, unit, integration and cluster tests
# make help    all targets
#
# Needs Python >= 3.11 with venv. `make test` also needs what a cluster needs: root, or Docker, or a
# KUBECONFIG; without a container registry also Go >= 1.26. Nothing is installed outside .venv and
# ~/.cache/kubesynth, but for Debian packages that the cluster needs and only root may install.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $(name))))
VENV ?= .venv
bin := $(VENV)/bin
run_installed := $(VENV)/.installed-to-run
dev_installed := $(VENV)/.installed-to-develop
harness := PYTHONPATH=tests/support $(bin)/python -m kubesynth_testing
compile := $(bin)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --custom-compile-command "make constraints" $(if $(UPGRADE),--upgrade)
without_runtime = $$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' constraints/runtime.txt)

# uv needs a twentieth of pip's time. pip goes on where it fails: it has ways of its own to find a
# mirror, a proxy or a certificate.
install = install() { $(bin)/uv pip install --quiet --python $(bin)/python "$$@" 2>/dev/null || \
	PYTHONWARNINGS=ignore $(bin)/pip install --quiet "$$@"; }; install

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each of hundreds of processes would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ Use
.PHONY: demo
demo: $(run_installed) ## make a dataset with the embedded model and print it
	rm -rf demo-output
	$(bin)/kubesynth local pull
	$(bin)/kubesynth run examples/closed-qa-local.yaml
	$(bin)/kubesynth show demo-output/closed-qa

##@ Check
.PHONY: test lint format format-check types contracts generated unit integration cluster
test: $(dev_installed) ## run every check and every test, with one summary at the end
	$(harness).gate

lint: $(dev_installed) ## look for mistakes and bad style
	$(bin)/ruff check

format-check: $(dev_installed) ## fail where `make format` would change something
	$(bin)/ruff format --check

types: $(dev_installed) ## check types, strictly
	$(bin)/mypy

contracts: $(dev_installed) ## check which module imports which
	$(bin)/lint-imports --no-cache

generated: $(dev_installed) ## fail where `make generate` would change something
	$(bin)/python -m kubesynth_api.crd --check

unit: $(dev_installed) ## tests without I/O; narrow with ARGS="-k name"
	$(bin)/pytest tests/unit $(ARGS)

integration: $(dev_installed) ## tests against real servers on loopback
	$(bin)/pytest tests/integration $(ARGS)

cluster: $(dev_installed) ## tests on a real Kubernetes
	$(bin)/pytest tests/cluster $(ARGS)

.PHONY: bench
bench: $(dev_installed) ## measure the engine beside bare clients, in one table; ARGS=--quick
	PYTHONPATH=tests/support $(bin)/python -m benchmarks $(ARGS)

##@ Develop
.PHONY: setup format generate constraints cluster-up cluster-down image clean
setup: $(dev_installed) ## install everything into .venv

format: $(dev_installed) ## format the code and fix what can be fixed
	$(bin)/ruff format
	$(bin)/ruff check --fix-only

generate: $(dev_installed) ## write the CRDs and the reference pages from the models
	$(bin)/python -m kubesynth_api.crd --write

cluster-up: $(dev_installed) ## start a kind cluster, or find that it runs
	$(harness).cluster up

cluster-down: $(dev_installed) ## delete it, and everything that was started for it
	$(harness).cluster down

image: $(dev_installed) ## build the image and load it into the cluster; EXTRAS=local adds the model
	$(harness).cluster image $(if $(EXTRAS),--extras $(EXTRAS))

constraints: $(dev_installed) ## pin new dependencies; UPGRADE=1 takes newer versions of all
	$(compile) -o constraints/bootstrap.txt constraints/bootstrap.in
	$(compile) -o constraints/triton.txt constraints/triton.in
	$(compile) --all-extras -o constraints/dev.txt pyproject.toml
	$(compile) -c constraints/dev.txt -o constraints/runtime.txt pyproject.toml
	for extra in local tokenizers; do \
		$(compile) -c constraints/dev.txt --extra $$extra $(without_runtime) \
			-o constraints/$$extra.txt pyproject.toml || exit 1; \
	done

clean: ## delete what the targets above have made in this folder
	rm -rf $(VENV) build demo-output .mypy_cache .ruff_cache .pytest_cache

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

# --- installing: pinned by hash, in steps that are repeated only when their input changes ---
$(bin)/python:
	@test -n "$(PYTHON)" || { \
		echo "kubesynth needs Python >= 3.11 with venv (Debian: apt install python3-venv);"; \
		echo "none of python3, python3.11 ... python3.14 in PATH is one."; \
		exit 1; } >&2
	$(PYTHON) -m venv $(VENV)

$(VENV)/.bootstrapped: constraints/bootstrap.txt | $(bin)/python
	$(bin)/python -m pip install -q --require-hashes -r constraints/bootstrap.txt
	@touch $@

$(run_installed): constraints/runtime.txt constraints/local.txt pyproject.toml $(VENV)/.bootstrapped
	@echo install constraints/runtime.txt and constraints/local.txt
	@$(install) --require-hashes -r constraints/runtime.txt -r constraints/local.txt
	@$(install) --no-deps --no-build-isolation -e .
	@touch $@

$(dev_installed): constraints/dev.txt pyproject.toml $(VENV)/.bootstrapped
	@echo install constraints/dev.txt
	@$(install) --require-hashes -r constraints/dev.txt
	@$(install) --no-deps --no-build-isolation -e .
	@touch $@
