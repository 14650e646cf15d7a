"""One run for each digest of a dataset: by whichever trigger, however often it is told, whatever calls fail."""

import io
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components import state
from components.adapters.storage import Storage
from model.errors import UserError
from pipelines.cli import main
from pipelines.cluster import staging
from pipelines.triggers import starting
from pipelines.triggers.arrivals import Arrival, arrivals
from pipelines.triggers.starting import Started, Trigger, start_when_settled, watch
from tests.pipelines.triggers.conftest import MakeTrigger

Upload = Callable[[str], str]


def tell(trigger: Trigger, *addresses: str, pause: Callable[[float], None] = lambda seconds: None) -> list[Any]:
    """The runs that were started."""
    runs = start_when_settled(trigger, addresses, settle=0.0, give_up=60.0, every=0.01, pause=pause)
    return [one.run for one in runs if one.run is not None]


def test_100_notifications_of_a_dataset_start_one_run_though_half_of_all_calls_fail(
    kubeflow: Any, make_trigger: MakeTrigger, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload("cubes")
    found = arrivals(address)
    monkeypatch.setattr(starting, "arrivals", lambda _: found)  # 200 listings would be 5 s of moto's time
    kubeflow.fail_half(7)
    ready = threading.Barrier(4)

    def process(_: int) -> int:
        trigger = make_trigger()
        ready.wait(60)
        return sum(len(tell(trigger, address)) for _ in range(25))

    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(process, range(4)))
    assert len(kubeflow.engine.runs) == 1
    assert sum(started) >= 1


def test_the_run_reads_the_dataset_that_arrived(kubeflow: Any, make_trigger: MakeTrigger, upload: Upload) -> None:
    (run,) = tell(make_trigger(settings=["preset=debug"]), upload("cubes"))
    assert run.parameters.steps["ingest"]["dataset"] == "s3://artefacts/cubes"
    assert run.parameters.preset == "debug"
    assert [one["run_id"] for one in kubeflow.runs] == [run.record["run"]]


def test_the_same_bytes_elsewhere_are_the_same_run_and_other_bytes_or_settings_another(
    kubeflow: Any, make_trigger: MakeTrigger, upload: Upload, tmp_path: Path
) -> None:
    assert len(tell(make_trigger(), upload("cubes"))) == 1
    out = io.StringIO()
    assert tell(make_trigger(stream=out), upload("copy/of/cubes")) == []
    assert "s3://artefacts/copy/of/cubes" in out.getvalue() and "has its run: http" in out.getvalue()
    Storage.from_url("s3://artefacts/cubes").write_bytes("README.md", b"more")
    assert len(tell(make_trigger(), "s3://artefacts/cubes")) == 1
    assert len(kubeflow.runs) == 2
    settings: tuple[list[str], ...] = ([], ["preset=debug"], ["preset=demo"])
    names = {make_trigger(settings=given).name("d" * 64) for given in settings}
    for number in range(2):
        params = tmp_path / f"{number}.yaml"
        params.write_text(f"seed: {number}\n")
        names |= {make_trigger(settings=given, params=params).name("d" * 64) for given in settings}
    assert len(names) == 9


def test_nothing_starts_while_files_still_arrive(
    kubeflow: Any, make_trigger: MakeTrigger, s3: Any, dataset: Path
) -> None:
    """A file a look: the run starts when the last has come, and at rest."""
    files = sorted(path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file())
    files.sort(key=lambda name: not name.startswith("meta"))
    store = Storage.from_url("s3://artefacts/cubes")
    waiting = list(files)

    def next_file(_: float) -> None:
        assert not kubeflow.runs or not waiting
        if waiting:
            name = waiting.pop(0)
            store.put_file(dataset / name, name)

    assert len(tell(make_trigger(), "s3://artefacts/cubes", pause=next_file)) == 1
    assert not waiting and len(kubeflow.runs) == 1


def test_a_dataset_that_stays_unfinished_is_said(
    kubeflow: Any, make_trigger: MakeTrigger, s3: Any, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload("cubes")
    s3.client.delete_object(Bucket="artefacts", Key="cubes/data/chunk-000/episode_000001.parquet")
    times = iter((0.0, 0.1, 0.2))  # when it begins, and after each of two looks: once seen is not at rest
    with (
        monkeypatch.context() as patch,
        pytest.raises(
            UserError, match=r"no run after 0\.2 s: .*lacks its table for episode 1\. Upload what is missing"
        ),
    ):
        patch.setattr(starting, "time", SimpleNamespace(monotonic=lambda: next(times)))
        start_when_settled(make_trigger(), [address], settle=0.0, give_up=0.2, every=0.01)
    with pytest.raises(UserError, match=r"s3://artefacts/nothing holds no meta/info\.json\."):
        start_when_settled(make_trigger(), ["s3://artefacts/nothing"], settle=0.0, give_up=0.0, every=0.01)
    assert not kubeflow.runs


def test_watching_starts_what_is_there_and_what_comes_and_again_nothing(
    kubeflow: Any, make_trigger: MakeTrigger, upload: Upload, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    upload("in/cubes")
    out = io.StringIO()
    rounds = iter(range(100))

    def meanwhile(_: float) -> None:
        match next(rounds):
            case 2:
                assert len(kubeflow.runs) == 1
                upload("in/balls")
                Storage.from_url("s3://artefacts/in/balls").write_bytes("README.md", b"balls")
            case 4:  # the bucket is away for a moment
                s3.faults.pending = ["503"] * 50
            case 5:
                s3.faults.pending.clear()

    trigger = make_trigger(stream=out)
    watch(trigger, "s3://artefacts/in", settle=0.0, every=0.01, pause=meanwhile, rounds=9)
    assert len(kubeflow.runs) == 2
    assert "tried again in 0.01 s: storage" in out.getvalue()
    out.seek(0)
    watch(make_trigger(stream=out), "s3://artefacts/in", settle=0.0, every=0.01, pause=lambda _: None, rounds=3)
    assert len(kubeflow.runs) == 2, "a watch that starts anew starts nothing twice"
    assert out.getvalue().count("has its run") == 2


def test_a_watched_dataset_that_cannot_be_started_keeps_no_other_from_its_run(
    kubeflow: Any, make_trigger: MakeTrigger, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("balls", "cubes"):
        Storage.from_url(upload(f"in/{name}")).write_bytes("README.md", name.encode())

    def lack_of(arrival: Arrival) -> str | None:
        if arrival.address.endswith("balls"):
            raise UserError("the balls are locked away")
        return None

    monkeypatch.setattr(starting, "lack_of", lack_of)
    now, out = [0.0], io.StringIO()

    def pause(seconds: float) -> None:
        now[0] += seconds

    trigger = make_trigger(stream=out)
    watch(trigger, "s3://artefacts/in", settle=0.0, every=30.0, pause=pause, clock=lambda: now[0], rounds=6)
    assert len(kubeflow.runs) == 1 and "s3://artefacts/in/cubes (" in out.getvalue()
    said = re.findall(r"tried again in (\d+) s: the balls are locked away", out.getvalue())
    assert said == ["30", "60", "120"], "at 30, 60 and 120 s"


def test_a_watched_dataset_that_could_not_be_read_is_looked_at_again_and_what_it_lacks_said_once(
    kubeflow: Any, make_trigger: MakeTrigger, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes do not change when the store is there again: nothing but time says that it may be whole now."""
    upload("in/cubes")
    looks = iter(["the store is away", "the store is away", None])
    monkeypatch.setattr(starting, "lack_of", lambda arrival: next(looks))
    now, out = [0.0], io.StringIO()

    def five_minutes(_: float) -> None:
        now[0] += 300.0

    trigger = make_trigger(stream=out)
    # It is at rest, and looked at, in the second round, the fourth and the sixth.
    watch(trigger, "s3://artefacts/in", settle=0.0, every=1.0, pause=five_minutes, clock=lambda: now[0], rounds=6)
    assert next(looks, "all were taken") == "all were taken"
    assert len(kubeflow.runs) == 1
    assert out.getvalue().count("waiting for the rest: the store is away") == 1


def test_a_watch_of_nothing_that_can_be_listed_ends(make_trigger: MakeTrigger, s3: Any) -> None:
    with pytest.raises(UserError, match="bucket 'no-such-bucket' does not exist"):
        watch(make_trigger(), "s3://no-such-bucket/in", settle=0.0, every=0.01, rounds=2)


def test_a_tag_puts_its_data_where_pods_read_it(
    kubeflow: Any, make_trigger: MakeTrigger, s3: Any, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from pipelines.profile import Storage as Place
    from pipelines.versions.tags import Release

    record = {"source": "collect", "steps": {"collect": {"digest": "d" * 64}}}
    release = Release(tag="data/cubes-v1", commit="c" * 40, record=record)
    for module in (starting, staging):
        monkeypatch.setattr(module, "find_release", lambda tag: release)
    monkeypatch.setattr(staging, "fetch_dataset", lambda tag: dataset)
    trigger = make_trigger()
    profile = dataclasses.replace(trigger.profile, storage=Place(url="s3://artefacts/pipelines"))
    trigger = dataclasses.replace(trigger, profile=profile)
    run = trigger.start_tag("data/cubes-v1").run
    assert run is not None
    assert run.parameters.steps["ingest"]["dataset"] == f"s3://artefacts/pipelines/datasets/{'d' * 64}"
    assert run.provenance["data"] == {
        "tag": "data/cubes-v1", "commit": "c" * 40, "digests": {"collect": "d" * 64},
    }  # fmt: skip
    assert trigger.start_tag("data/cubes-v1") == Started(run_id=run.record["run"])
    assert len(kubeflow.runs) == 1


def test_the_command_follows_a_run_that_another_process_started(
    kubeflow: Any, make_trigger: MakeTrigger, upload: Upload, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "the wheel came off")
    command = ["trigger", "data", upload("cubes"), "--settle", "0", "--every", "0.01", "--allow-tags"]
    assert main(command) == 0
    (run,) = kubeflow.runs
    assert f"run {run['run_id']}" in capsys.readouterr().out
    assert main([*command, "--wait"]) == 1, "the exit code is that of the run"
    said = capsys.readouterr().out
    assert "has its run" in said and "the wheel came off" in said
    (summary,) = [json.loads(path.read_text()) for path in state.runs_folder().glob("*/summary.json")]
    assert summary["status"] == "failed" and summary["cost"]["basis"] == "reserved"
    assert main(["trigger", "watch", "s3://artefacts", "--dry-run", "--allow-tags"]) == 0
    assert re.search(rf"s3://artefacts/cubes  \w{{12}}  .* has run {run['run_id']}", capsys.readouterr().out)
    event = json.dumps({"Event": "s3:TestEvent"})
    assert main(["trigger", "data", "--event", event, "--allow-tags"]) == 0
    assert "about no dataset" in capsys.readouterr().out
    assert main(["trigger", "data", "--allow-tags"]) == 2
    waits = ["trigger", "data", "s3://artefacts/nothing", "--give-up", "0", "--allow-tags"]
    assert main([*waits, "--set", "pack.nothing=1"]) == 2, "before anything is waited for"
    assert "unknown parameter of 'pack' 'nothing'" in capsys.readouterr().err
    for option, value in (("--every", "0"), ("--give-up", "-1")):
        assert main(["trigger", "data", "s3://artefacts/cubes", "--allow-tags", option, value]) == 2
        assert f"{option} is {value}: it must be" in capsys.readouterr().err
    assert main(["trigger", "tag", "data/cubes-v1", "--profile", "laptop"]) == 2
    assert "nothing waits for data: give one of a cluster" in capsys.readouterr().err
    assert len(kubeflow.runs) == 1
