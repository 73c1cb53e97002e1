"""Data tests see no folder of this machine, and work on a study of their own."""

import pytest

from edgeq_lib.study import Study


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Nothing is taken from, or put into, the checkout or the assets."""
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EDGEQ_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGEQ_ASSETS", raising=False)


@pytest.fixture
def study():
    return Study("s", "01_data")
