"""What holds for every test."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

E2E = Path(__file__).parent / "e2e"

# A law that takes long on a loaded machine is not a broken law; pytest's own time limit guards against hanging.
# CI tries the same examples each time, so that it judges the change; a developer's run tries new ones.
settings.register_profile("whimbrel", settings(deadline=None, derandomize="CI" in os.environ))
settings.load_profile("whimbrel")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lab goes last, and what needs root says so instead of failing without it."""
    items.sort(key=lambda item: E2E in item.path.parents)
    without_root = pytest.mark.skip(reason="needs root: builds network namespaces")
    for item in items:
        if os.geteuid() != 0 and (E2E in item.path.parents or item.get_closest_marker("root")):
            item.add_marker(without_root)
