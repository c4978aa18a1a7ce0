"""Services in tests with pytest and pytest-xdist.

    # conftest.py
    import procref.pytest

    pg = procref.pytest.service("pg")

The fixture ``pg`` returns the handle of the service ``pg`` in ``procref.toml``. All workers of pytest-xdist share one
PostgreSQL, which is stopped after the last of them, whatever happens to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from procref import Handle

__all__ = ["service"]


def service(name: str, start: Any = None, **settings: Any) -> Any:
    """Return a session-scoped fixture whose value is the handle of a service.

    Without ``start``, a ``procref.toml`` describes the service. Otherwise ``start`` and the settings are those of
    `procref.Service`, and the service belongs to the project of pytest's root directory.
    """
    if start is None and settings:
        raise TypeError(f"the service {name!r} has settings ({', '.join(settings)}), but no `start`")

    @pytest.fixture(scope="session")
    def fixture(request: pytest.FixtureRequest, procref_service: Callable[[str], Handle]) -> Handle:
        if start is None:
            return procref_service(name)
        from procref.pytest.plugin import services_of

        return services_of(request.config).acquire(name, {"start": start, **settings})

    return fixture
