# Recipes. `python3 deploy/bootstrap.py RECIPE` prepares the machine first; here everything is expected to be there.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

python := env("UV_PYTHON", "python3")
workers := "--numprocesses 4 --dist worksteal" # more than cores: most tests wait for processes of their own
export PATH := justfile_directory() / ".tools/bin" + ":" + env("PATH")
export UV_SYSTEM_CERTS := "1"
export UV_PYTHON_DOWNLOADS := "never"

[private]
default:
    @just --list --unsorted

# make .venv match the lock; does nothing when it already does
setup:
    #!/usr/bin/env bash
    set -euo pipefail
    wanted() { cat requirements/dev.txt; sed '/^\[tool/,$d' pyproject.toml; }
    ready() { [[ -x .venv/bin/python && -x .venv/bin/whimbrel ]] && wanted | cmp -s - .venv/.installed; }
    ready && exit
    mkdir -p .tools
    exec 9>.tools/.lock
    flock 9 # a second set-up waits for the first, and then has nothing to do
    ready && exit
    [[ -x .venv/bin/python ]] || uv venv --quiet --clear --python "{{ python }}" .venv
    uv pip install --quiet --python .venv --exact --no-deps --require-hashes -r requirements/dev.txt
    uv pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
    wanted >.venv/.installed

# write requirements/*.txt anew from requirements/*.in, e.g. `just lock --upgrade-package rich`
lock *args:
    #!/usr/bin/env bash
    set -euo pipefail
    compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --excludes requirements/unused.in "$@"; }
    compile "$@" requirements/tools.in -o requirements/tools.txt
    compile "$@" requirements/run.in -o requirements/run.txt
    compile "$@" --constraint requirements/run.txt requirements/dev.in -o requirements/dev.txt
    just setup

# style, types, imports and the rules of the house
check: setup
    .venv/bin/ruff check
    .venv/bin/ruff format --check
    .venv/bin/mypy
    .venv/bin/lint-imports --no-logo
    .venv/bin/pytest -q tests/arch

# the suite without the lab: unit, property, contract, sim, bus
unit *args: setup
    .venv/bin/pytest {{ workers }} --ignore=tests/e2e "$@"

# the lab with real hosts; as root
e2e *args: setup
    .venv/bin/pytest tests/e2e "$@"

# the simulated world with other seeds than the suite's
sim seeds="100-2000" *args: setup
    WHIMBREL_SIM_SEEDS="$1" .venv/bin/pytest tests/sim "${@:2}"

# the lab with everything that can happen to it, seeds and rounds longer than the suite's; as root
chaos seeds="2-10" rounds="30" *args: setup
    WHIMBREL_CHAOS_SEEDS="$1" WHIMBREL_CHAOS_ROUNDS="$2" .venv/bin/pytest -s tests/e2e/test_chaos.py "${@:3}"

# break the code on purpose in copies of the tree, and see that the tests notice; words choose, e.g. `just mutants agent/core`
mutants *words: setup
    .venv/bin/python -m tests.mutants "$@"

# what no test of the suite without the lab reaches, by file and line; words choose, e.g. `just coverage tests/unit/agent`
coverage *args: setup
    .venv/bin/pytest {{ workers }} --cov --cov-report term-missing:skip-covered --ignore=tests/e2e "$@"

# add the new forms of what leaves a process to tests/golden/messages.json
golden: setup
    .venv/bin/python -m tests.golden.messages

# everything that CI runs: check, the suite, the lab
test *args: check
    .venv/bin/pytest {{ workers }} "$@"

ci: test

# measure; prints ratios and percentiles
bench *args: setup
    .venv/bin/python -m tests.bench "$@"

# build two hosts, a gateway and a private network, and check that traffic flows; as root
lab *args: setup
    .venv/bin/whimbrel lab run "$@"

# gateways that die, stop and return, scene by scene, e.g. `just ha --scene drain`; as root. How often and how fast: `just bench ha`
ha *args: setup
    .venv/bin/whimbrel lab run ha "$@"

# generate the AsyncAPI document of the bus, and the map of the components from their imports
docs: setup
    .venv/bin/python -m deploy.docs.asyncapi
    .venv/bin/python -m deploy.docs.components
