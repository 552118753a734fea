import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Many tiny operations: more threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_images():
    """Archive of real images: train/<class>/* and test/<class>/*; skips where there is none."""
    path = os.environ.get("SPARSECNN_IMAGES")
    if not path:
        pytest.skip("SPARSECNN_IMAGES does not name an archive of images")
    return Path(path)
