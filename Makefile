# `make demo` raises two simulated DGX Sparks on this machine and ends with an answer; `make help` lists the rest.
VENV ?= .venv
PYTHON_IN_VENV = $(VENV)/bin/python
export VENV

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down demo-reboot demo-status venv venv-dev test check lint unit mutations

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

setup: venv ## Your Sparks: asks for their addresses, looks at them, writes inventory/sparks (`python -m setup_wizard --help` for more)
	@$(PYTHON_IN_VENV) -m setup_wizard

demo: venv ## Two simulated Sparks, Ray, vLLM, and a question answered
	@$(PYTHON_IN_VENV) -m simulation demo

demo-down: venv ## Take the simulation away (downloads and images stay: `python -m simulation down --cache` takes them as well)
	@$(PYTHON_IN_VENV) -m simulation down --engine

demo-reboot: venv ## Pull both plugs, put them back, and wait for the endpoint to answer
	@$(PYTHON_IN_VENV) -m simulation demo-reboot

demo-status: venv ## What runs, and whether the endpoint answers
	@$(PYTHON_IN_VENV) -m simulation status

venv: ## The virtual environment with the pinned packages
	@bin/bootstrap

venv-dev: ## The same with linters and test tools
	@bin/bootstrap --dev

test: venv-dev ## Linters, unit tests and mutations, molecule scenarios, integration tests
	@tests/run

check: venv-dev ## The quick lane: linters, unit tests, one molecule scenario
	@tests/run check

lint: venv-dev ## Linters only
	@tests/run lint

unit: venv-dev ## Unit tests only
	@tests/run unit

mutations: venv-dev ## Break the riskiest code in 72 places: the unit tests must notice each
	@tests/run mutations
