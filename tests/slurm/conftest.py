import pytest
from mini_slurm import ROOT, MiniSlurm


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A running Slurm of two nodes, each of two cores and two GPUs that are none."""
    if reason := MiniSlurm.missing():
        pytest.skip(reason)
    cluster = MiniSlurm(tmp_path_factory.mktemp("slurm"), [ROOT / "profiles/slurm/no-database"])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
