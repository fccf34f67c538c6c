"""Both kinds of database: what is searched and shared must not depend on which it is."""

from pathlib import Path

import pytest

from cairn.core import Settings


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Settings(home=tmp_path / "home", database_url=url)
