"""`lingbot run --profile cluster`: what is submitted, what a person sees, how it ends."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components.adapters.storage import Storage
from components.artifacts import Artifact, FileRecord, digest_of
from components.code_version import code_version
from components.execution import plan_fingerprint
from components.steps import STEPS, Step, maker
from pipelines.cluster import following, records, results, run, staging
from pipelines.cluster.submission import submit_once
from pipelines.parameters import load_parameters
from pipelines.shape import run_steps
from pipelines.versions.tags import Release
from tests.components.launch.kubernetes_api import NAMESPACE, Kubernetes
from tests.pipelines.cluster.kubeflow_api import Kubeflow
from tests.pipelines.conftest import SUMMARIES

Lingbot = Callable[..., int]
REPORT = {"step": "pack", "type": "UserError", "message": "steps is -1: it must be 1 or more", "traceback": "..."}


def marked(user: bool) -> str:
    return f"lingbot-error: {json.dumps(REPORT | {'user': user})}"


def record() -> dict[str, Any]:
    return records.read(records.known()[-1])


def test_it_runs_with_its_parameters_and_is_followed_to_its_end(
    kubeflow: Kubeflow, kubernetes: Kubernetes, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.cache("annotate")
    kubeflow.hold("collect")
    with ThreadPoolExecutor(1) as pool:
        # Nothing is finished when it is looked at first.
        pool.submit(kubeflow.until, lambda: kubeflow.wire.requests.count("get_run") > 2).add_done_callback(
            lambda _: kubeflow.release()
        )
        assert lingbot("run", "--profile", "here.yaml") == 0
    (started,) = kubeflow.runs
    assert started["state"] == "SUCCEEDED"
    assert started["runtime_config"]["parameters"]["pretrain_parameters"]["steps"] == 7
    said = capsys.readouterr().out
    assert f"{kubeflow.url}/#/runs/details/{started['run_id']}" in said
    assert "annotate: cached" in said
    started = re.findall(r"^(\w+): started", said, re.MULTILINE)
    assert [name for name in started if name != "extract_depth_tokens"] == [
        "collect", "validate", "pack", "pretrain", "finetune", "evaluate", "register", "promote",
    ]  # fmt: skip
    steps = [pod["metadata"]["labels"]["lingbot/step"] for pod in kubernetes.pods()]
    assert sorted(steps) == sorted(set(STEPS) - {"annotate", "ingest", "subset", "study"}), "as the profile labels them"


def test_what_it_was_made_from_is_kept_here_and_where_its_steps_find_it(
    kubeflow: Kubeflow, lingbot: Lingbot, tmp_path: Path
) -> None:
    assert lingbot("run", "--profile", "here.yaml", "--no-wait") == 0
    (started,) = kubeflow.runs
    kept = record()
    assert (kept["run"], kept["status"], kept["pipeline"]) == (started["run_id"], "running", "demonstrations_to_policy")
    there = json.loads((tmp_path / "storage/runs" / started["run_id"] / "provenance.json").read_text())
    here = json.loads((tmp_path / "home/runs" / kept["id"] / "provenance.json").read_text())
    assert there == here | {"run": started["run_id"]}
    assert there["images"]["train"]["digest"] == f"sha256:{'a' * 64}"
    assert set(there["parameters"]) > {"collect", "pretrain"}


def test_a_failure_that_the_user_can_put_right_is_a_sentence_and_code_2(
    kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "reading", marked(user=True), "Traceback")
    assert lingbot("run", "--profile", "here.yaml") == 2
    said = capsys.readouterr().out
    assert "step 'pack' failed: steps is -1: it must be 1 or more" in said
    assert "Traceback" not in said
    assert f"lingbot runs retry {record()['id']}" in said
    assert record()["error"] == {"step": "pack", "message": REPORT["message"]}


def test_a_fault_shows_the_end_of_the_log_and_is_code_1(
    kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "epoch 1", "the wheel came off")
    assert lingbot("run", "--profile", "here.yaml") == 1
    said = capsys.readouterr().out
    assert re.search(r"step 'pack' failed\n  the end of the log of pod \S+-pack-1:\n  \| epoch 1\n  \| the wheel", said)
    assert record()["status"] == "failed"


def test_a_report_into_which_another_line_came_is_shown_as_it_stands(
    kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container's runtime cuts long lines in pieces, and what another stream says comes between them."""
    kubeflow.break_step("pack", marked(user=True)[:60] + "a warning", "the end")
    assert lingbot("run", "--profile", "here.yaml") == 1
    said = capsys.readouterr().out
    assert re.search(
        r"step 'pack' failed\n  the end of the log of .*\n  \| lingbot-error: .*a warning\n  \| the end", said
    )
    assert record()["status"] == "failed"


def test_a_log_that_cannot_be_read_is_said_with_the_command_that_reads_it(
    kubeflow: Kubeflow, kubernetes: Kubernetes, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "lost")
    kubernetes.deny("get", "pods/log")
    assert lingbot("run", "--profile", "here.yaml") == 1
    said = capsys.readouterr().out
    (started,) = kubeflow.runs
    assert f"kubectl -n {NAMESPACE} logs -l pipeline/runid={started['run_id']},lingbot/step=pack -c main" in said


def test_a_pod_that_is_gone_is_said(kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]) -> None:
    kubeflow.break_step("pack", "lost", kept=False)
    assert lingbot("run", "--profile", "here.yaml") == 1
    assert "no pod of it is left in namespace 'lingbot'" in capsys.readouterr().out


def test_it_is_followed_through_an_api_that_fails_half_of_its_calls(kubeflow: Kubeflow, lingbot: Lingbot) -> None:
    kubeflow.fail_half(seed=5)
    assert lingbot("run", "--profile", "here.yaml") == 0
    assert [run["state"] for run in kubeflow.engine.runs.values()] == ["SUCCEEDED"]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the first look."""

    class View:
        def __enter__(self) -> "View":
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            """Nothing was shown."""

    monkeypatch.setattr(following, "open_view", lambda stream: View())


@pytest.mark.usefixtures("interrupted")
def test_leaving_it_ends_nothing(kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]) -> None:
    kubeflow.hold("collect")
    assert lingbot("run", "--profile", "here.yaml") == 130
    assert f"goes on: `lingbot runs watch {record()['id']}` comes back" in capsys.readouterr().err
    kubeflow.release()
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "SUCCEEDED")


@pytest.mark.usefixtures("interrupted")
def test_leaving_it_ends_it_when_asked_to(kubeflow: Kubeflow, lingbot: Lingbot) -> None:
    kubeflow.hold("collect")
    assert lingbot("run", "--profile", "here.yaml", "--cancel-on-interrupt") == 130
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "CANCELED")


def test_one_run_of_a_text(kubeflow: Kubeflow, lingbot: Lingbot) -> None:
    assert lingbot("run", "--profile", "here.yaml", "--no-wait", "--once", "commit-1") == 0
    assert lingbot("run", "--profile", "here.yaml", "--once", "commit-1") == 0
    assert len(kubeflow.runs) == 1
    assert lingbot("run", "--profile", "here.yaml", "--no-wait") == 0
    assert len(kubeflow.runs) == 2


def test_files_of_this_machine_are_refused_before_anything_is_sent(
    kubeflow: Kubeflow, lingbot: Lingbot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lingbot("run", "--profile", "here.yaml", "--dataset", str(tmp_path)) == 2
    assert f"ingest.dataset is '{tmp_path}', a file of this machine" in capsys.readouterr().err
    assert kubeflow.wire.requests == []


def test_the_data_of_a_tag_is_put_where_pods_read(
    kubeflow: Kubeflow, lingbot: Lingbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fetched/meta").mkdir(parents=True)
    (tmp_path / "fetched/meta/info.json").write_text("{}")
    steps = {"collect": {"digest": "c" * 64}}
    release = Release(tag="data/cubes-v1", commit="d" * 40, record={"source": "collect", "steps": steps})
    monkeypatch.setattr(staging, "find_release", lambda tag: release)
    monkeypatch.setattr(staging, "fetch_dataset", lambda tag: tmp_path / "fetched")
    monkeypatch.setattr(Storage, "locate", lambda storage, key: f"s3://there/{key}")
    monkeypatch.setattr("pipelines.commands.run.data_of", lambda args: {"tag": args.from_tag})
    compiled_with = []
    monkeypatch.setattr(run, "compile_pipeline", lambda *given: compiled_with.append(given[0]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lingbot("run", "--profile", "here.yaml", "--from-tag", "data/cubes-v1")
    assert (tmp_path / "storage/datasets" / ("c" * 64) / "meta/info.json").exists()
    (parameters,) = compiled_with
    assert parameters.steps["ingest"]["dataset"] == f"s3://there/datasets/{'c' * 64}"
    assert json.loads(next((tmp_path / "home/runs").glob("*/provenance.json")).read_text())["data"] == {
        "tag": "data/cubes-v1"
    }


def test_a_run_whose_command_died_while_it_was_submitted_is_found(
    kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit_and_die(*given: Any, **options: Any) -> str:
        submit_once(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.cluster.run.submit_once", submit_and_die)
    assert lingbot("run", "--profile", "here.yaml") == 130
    assert record()["run"] == ""
    assert lingbot("runs", "watch", "last") == 0
    assert record()["run"] == kubeflow.runs[0]["run_id"]


def test_it_ends_with_what_its_steps_published_and_what_it_cost(
    kubeflow: Kubeflow,
    lingbot: Lingbot,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, values = run_steps("demonstrations_to_policy", load_parameters())
    publish(steps, values, tmp_path / "storage")
    assert lingbot("run", "--profile", "here.yaml") == 0
    said = capsys.readouterr().out
    assert "episodes     240 in, 2 quarantined, 0.61 h usable" in said
    assert "SR 82% [73, 88]" in said
    assert "version      lingbot-vla-aloha_sim version 3" in said
    assert re.search(r"cost         .* CPU hours, .* GPU hours", said)
    kept = record()
    assert [entry["status"] for entry in kept["steps"]] == ["done"] * 10
    assert kept["steps"][1]["summary"] == SUMMARIES["validate"]
    assert kept["cost"]["basis"] == "reserved"
    assert lingbot("runs", "show", "last") == 0
    assert "episodes     240 in" in capsys.readouterr().out
    monkeypatch.setattr(results.Sources, "version", lambda sources, module: "0" * 64)  # the checkout's code has changed
    for look in ("show", "watch"):
        assert lingbot("runs", look, "last") == 0
        assert "holds other code than made them" in capsys.readouterr().out
        assert record() == kept, "what it made is found no more, and stays known"
    summary = json.loads((tmp_path / "home/runs" / kept["id"] / "summary.json").read_text())
    assert summary["status"] == "done" and "240" in json.dumps(summary)


def test_results_of_other_code_are_not_taken_for_its_own(
    kubeflow: Kubeflow, lingbot: Lingbot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, values = run_steps("demonstrations_to_policy", load_parameters(settings=["collect.episodes=3"]))
    publish(steps, values, tmp_path / "storage")
    assert lingbot("run", "--profile", "here.yaml") == 0
    said = capsys.readouterr().out
    assert "holds other code than made them" in said
    assert "episodes" not in said


def publish(steps: Sequence[Step], values: Mapping[str, Mapping[str, Any]], storage: Path) -> None:
    """What the steps of a run leave in the storage."""
    made: dict[str, Artifact] = {}
    for step in steps:
        files = {"result.txt": FileRecord(size=4, sha256="b" * 64)}
        before = {name: made[maker(step, name)] for name in step.inputs}
        digests = {name: artifact.digest for name, artifact in before.items()}
        identity = plan_fingerprint(step, digests, values[step.task], code_version(step.module))
        made[step.task] = Artifact(
            step=step.name,
            kind=step.artifact,
            uri=f"steps/{step.name}/{identity}/data",
            digest=digest_of(files),
            fingerprint=identity,
            files=files,
            summary=SUMMARIES.get(step.name, {}),
            inputs={name: artifact.source for name, artifact in before.items()},
            parameters=dict(values[step.task]),
            sources={},
            code_version=code_version(step.module),
        )
        path = storage / "steps" / step.name / identity / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(made[step.task].to_bytes())
