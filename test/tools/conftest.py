"""Fixtures of the tools' tests."""

from __future__ import annotations

import pytest
from fake_cuda import FakeCuda

from crosstile.targets.nvidia.driver import CudaDevice


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """The GPU of this machine: a stand-in for the driver, with 3 multiprocessors."""
    found = FakeCuda(processors=3)
    device = CudaDevice(library=found)
    monkeypatch.setattr("crosstile.tools.device.gpu", lambda: device)
    return found
