"""A log that the API does not give: the job is followed to its end by what its pods and it itself tell."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.components.launch.cluster_cases import PATIENCE, cluster, job, launcher, run


@pytest.mark.parametrize(("status", "said"), [(403, "refuses it"), (500, "has not answered for 0 s"), (422, "422: ")])
def test_a_job_whose_log_cannot_be_read_goes_on_and_says_so(tmp_path: Path, status: int, said: str) -> None:
    """A node of which the API has no log trains all the same."""
    patience = dataclasses.replace(PATIENCE, api=0.3)
    with cluster(tmp_path) as cloud, ThreadPoolExecutor(1) as pool:
        cloud.fail("get pods/log", status, times=100_000)
        lines: list[str] = []
        ending = pool.submit(run, launcher(cloud, patience=patience), job(tmp_path), lines)
        try:
            cloud.until(lambda: lines or ending.done())
            assert not ending.done(), "it goes on without its log"
        finally:
            (tmp_path / "go").touch()  # the pool waits for the job, also of a test that fails
        assert ending.result(120)[0].kind == "succeeded"
    (line,) = lines
    assert line.startswith("(the rest of the log of pod tr1-pretrain-a1-") and said in line
