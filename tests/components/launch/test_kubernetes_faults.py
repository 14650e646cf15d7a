"""A bad network between the launcher and the API: nothing is lost, doubled or started twice."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from components.launch.cluster import Patience
from components.launch.outcomes import Outcome
from model.errors import UserError
from tests.components.launch.cluster_cases import cluster, job, launcher, nothing_left, run
from tests.components.launch.kubernetes_api import NAMESPACE, Kubernetes

Aside = Callable[..., Future[tuple[Outcome, list[str]]]]
# Counts to 40, in its time, and waits at 20 for the file GO.
COUNTS = """
import os, time
for number in range(40):
    print("step", number, flush=True)
    time.sleep(0.005)
    while number == 20 and not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
"""
COUNTED = [f"step {number}" for number in range(40)]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Kubernetes]:
    with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[Aside]:
    with ThreadPoolExecutor(1) as pool:
        yield lambda launcher, spec: pool.submit(run, launcher, spec)
        (tmp_path / "go").touch()  # also of a test that failed before: the pool waits for the job


WIRE = {
    "every list is refused once": [("list .*", 500), ("list .*", 429)],
    "watches break after their first lines": [("watch .*", {"after": 1, "times": 6})],
    "watches are refused": [("watch .*", {"status": 503, "times": 3}), ("watch .*", {"status": 0, "times": 3})],
    "the log breaks again and again": [("get pods/log", {"after": 5, "times": 5})],
    "the log is refused": [
        ("get pods/log", {"status": 500, "times": 3}),
        ("get pods/log", {"status": 400, "times": 2}),
    ],
    "the submission is refused and broken": [("create pytorchjobs", 500), ("create pytorchjobs", 0)],
}


@pytest.mark.parametrize("faults", WIRE.values(), ids=WIRE)
def test_a_job_is_followed_over_a_wire_that_breaks(
    cloud: Kubernetes, aside: Aside, tmp_path: Path, faults: list[tuple[str, int | dict[str, int]]]
) -> None:
    wanted = [cloud.fail(where, **(how if isinstance(how, dict) else {"status": how})) for where, how in faults]
    ending = aside(launcher(cloud), job(tmp_path, COUNTS))
    cloud.until(lambda: all(fault.hits for fault in wanted))  # it does not end before
    (tmp_path / "go").touch()
    outcome, lines = ending.result()
    assert outcome.kind == "succeeded"
    assert lines == COUNTED


def test_connections_cut_in_the_middle_lose_and_double_nothing(cloud: Kubernetes, aside: Aside, tmp_path: Path) -> None:
    ending = aside(launcher(cloud), job(tmp_path, COUNTS))
    cloud.until(lambda: cloud.logged("step 20") and len(cloud.wire.streams) == 3)  # two watches and a log
    assert cloud.server.sever() == 3
    (tmp_path / "go").touch()
    outcome, lines = ending.result()
    assert (outcome.kind, lines) == ("succeeded", COUNTED)


def test_a_failure_is_known_from_the_pods_although_their_view_is_behind(cloud: Kubernetes, tmp_path: Path) -> None:
    launch = launcher(cloud)
    name = launch.submit(job(tmp_path, "import sys; sys.exit(3)"))
    cloud.until(lambda: cloud.jobs()[0].get("status", {}).get("conditions", [{}])[-1].get("type") == "Failed")
    cloud.fail("list pods", 500, times=3)
    outcome = launch.follow(name, lambda line: None)
    assert (outcome.kind, outcome.exit_code) == ("failed", 3)


def test_a_forgotten_version_is_listed_again(cloud: Kubernetes, aside: Aside, tmp_path: Path) -> None:
    ending = aside(launcher(cloud), job(tmp_path))
    cloud.until(lambda: cloud.logged("trains") and len(cloud.wire.streams) == 3)  # two watches and a log
    listed = cloud.wire.requests.count("list pods")
    refused = cloud.fail("watch pods", 503, times=1_000_000)
    cloud.server.sever()
    cloud.until(lambda: refused.hits)  # from now on nobody who watches is told a version that is not forgotten
    cloud.store.compact()
    refused.times = 0
    cloud.until(lambda: cloud.wire.requests.count("list pods") > listed)
    (tmp_path / "go").touch()
    assert ending.result()[0].kind == "succeeded"


def test_retry_after_is_honoured(cloud: Kubernetes, tmp_path: Path) -> None:
    cloud.fail("create pytorchjobs", 429, retry_after=1)
    began = time.monotonic()
    launcher(cloud).submit(job(tmp_path))
    assert time.monotonic() - began >= 1


def test_a_submission_whose_answer_was_lost_is_not_made_twice(cloud: Kubernetes, tmp_path: Path) -> None:
    cloud.fail("create pytorchjobs", 0, done=True)
    spec = job(tmp_path)
    assert launcher(cloud).submit(spec) == spec.name
    assert cloud.wire.requests.count("create pytorchjobs") == 2
    assert [found["metadata"]["name"] for found in cloud.jobs()] == [spec.name]


def test_a_job_of_that_name_and_another_digest_is_not_adopted(cloud: Kubernetes, tmp_path: Path) -> None:
    launch, spec = launcher(cloud), job(tmp_path)
    launch.submit(spec)
    other = {"lingbot/spec-digest": "0" * 64}
    cloud.store.change(
        "pytorchjobs", NAMESPACE, spec.name, lambda found: found["metadata"]["annotations"].update(other)
    )
    for ask in (launch.submit, launch.find):
        with pytest.raises(UserError, match=f"is {'0' * 64}, and this one's is {spec.digest}"):
            ask(spec)


def test_a_job_that_is_being_deleted_is_waited_for_and_made_anew(
    cloud: Kubernetes, aside: Aside, tmp_path: Path
) -> None:
    launch, spec = launcher(cloud), job(tmp_path)
    launch.submit(spec)
    cloud.until(lambda: cloud.logged("trains"))
    before = cloud.jobs()[0]["metadata"]["uid"]
    cloud.delete_job(spec.name)
    launch.submit(spec)
    assert [found["metadata"]["uid"] for found in cloud.jobs()] != [before]


def test_a_deletion_that_fails_is_tried_again(cloud: Kubernetes, tmp_path: Path) -> None:
    launch, spec = launcher(cloud), job(tmp_path)
    launch.submit(spec)
    cloud.until(lambda: cloud.logged("trains"))
    cloud.fail("delete pytorchjobs", 500)
    cloud.fail("delete pytorchjobs", 0)
    launch.delete(spec.name)
    assert nothing_left(cloud)


def test_pods_that_do_not_go_are_named(cloud: Kubernetes, tmp_path: Path) -> None:
    launch = launcher(cloud, patience=Patience(delete=0.5, first=0.02, longest=0.2))
    spec = job(tmp_path)
    launch.submit(spec)
    cloud.until(lambda: cloud.logged("trains"))
    stuck = cloud.pods()[0]["metadata"]["name"]
    cloud.lose_node(stuck)
    with pytest.raises(UserError, match=f"{stuck}, {spec.name} in namespace 'lingbot' did not go within 0 s"):
        launch.delete(spec.name)
    cloud.remove_node(stuck)


def test_an_api_that_stays_away_ends_in_one_sentence(cloud: Kubernetes, tmp_path: Path) -> None:
    cloud.fail(".*", 503, times=1000)
    launch = launcher(cloud, patience=Patience(api=0.5, first=0.02, longest=0.1))
    with pytest.raises(UserError, match=r"the Kubernetes API has not answered for 0 s \(503: stand-in"):
        launch.submit(job(tmp_path))


def test_a_permission_lost_on_the_way_ends_the_watch(cloud: Kubernetes, tmp_path: Path) -> None:
    launch = launcher(cloud)
    name = launch.submit(job(tmp_path))
    cloud.deny("list", "pods")
    with pytest.raises(UserError, match="watching the pods of .*: the Kubernetes API refuses it"):
        launch.follow(name, lambda line: None)
