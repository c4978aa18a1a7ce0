"""The hook that the plugin adds to pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from procref import Info


def pytest_procref_ready(name: str, info: Info, config: pytest.Config) -> None:
    """Called once for each instance of a service, before any test uses it, in the process that has started it.

    Use it for migrations. An exception stops the service, and is the error of the fixture that needs the service.
    """
