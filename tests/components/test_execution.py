"""The harness around one step: reuse, resumption, checks of bytes, locks, full disks, shared storage."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from components import records, state
from components.artifacts import Artifact
from components.execution import execute, is_full_disk, load_artifact, report
from components.progress import progress_path, read_progress
from model.errors import UserError
from tests.components.small_steps import make_step
from tests.components.waiting import wait_for


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LINGBOT_STORAGE", raising=False)
    return tmp_path / "home"


def run(step, inputs=None, run_id=None, version="v1", **parameters) -> Artifact:
    return execute(step, inputs or {}, parameters, run_id, version=version)


def test_a_finished_step_is_recorded_and_reused(home):
    step, module = make_step("source")
    first = run(step, run_id="r1")
    assert first.summary == {"amount": 3, "read": []}
    assert set(first.files) == {"a.txt", "folder/b.txt"}
    assert first.uri == f"steps/source/{first.fingerprint}/data"
    assert not records.work_folder("source", first.fingerprint).exists()
    assert run(step, run_id="r2") == first == load_artifact("source", first.fingerprint)
    assert module.ran == 1
    statuses = [read_progress(progress_path(run_id, "source"))[0][-1]["status"] for run_id in ("r1", "r2")]
    assert statuses == ["done", "cached"]
    assert records.read_timing("source", first.fingerprint)["run"] == "r1"


def test_the_digest_is_of_the_content_and_the_fingerprint_of_the_cause():
    step, _ = make_step("source")
    first, other_version = run(step), run(step, version="v2")
    assert other_version.fingerprint != first.fingerprint
    assert other_version.digest == first.digest
    assert run(step, label="y").digest != first.digest
    assert run(step, files=["a.txt"]).digest != first.digest
    # A reader of equal content is the same execution, whoever made it.
    reader, module = make_step("reader", source="source")
    assert run(reader, {"source": first}) == run(reader, {"source": other_version})
    assert module.ran == 1


def test_equal_executions_have_equal_manifests(monkeypatch, tmp_path):
    step, _ = make_step("source")
    manifests = []
    for name in ("one", "two"):
        monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / name))
        artifact = run(step, run_id=name)
        manifests.append(records.manifest_path("source", artifact.fingerprint).read_bytes())
    assert manifests[0] == manifests[1]


def test_an_interrupted_step_goes_on_where_it_was():
    seen = []

    def work(inputs, output, parameters, progress):
        seen.append(sorted(path.name for path in output.iterdir()))
        (output / ".scratch").mkdir(exist_ok=True)
        (output / "checkpoint").write_text("half")
        if len(seen) == 1:
            raise RuntimeError("the power went")
        (output / "a.txt").write_text("whole")

    step, _ = make_step("trained", work)
    with pytest.raises(RuntimeError, match="power"):
        run(step)
    artifact = run(step)
    assert seen == [[], [".scratch", "checkpoint"]]
    assert set(artifact.files) == {"a.txt", "checkpoint"}


def test_figures_that_depend_on_speed_are_kept_beside_the_artefact():
    def work(inputs, output, parameters, progress):
        (output / ".scratch").mkdir()
        (output / ".scratch" / "speed.jsonl").write_text('{"step": 1, "samples_per_second": 7.0}\n')
        (output / "a.txt").write_text("whole")

    step, _ = make_step("trained", work)
    artifact = run(step)
    assert set(artifact.files) == {"a.txt"}
    kept = records.manifest_path("trained", artifact.fingerprint).parent / "speed.jsonl"
    assert kept.read_text() == '{"step": 1, "samples_per_second": 7.0}\n'


def damage_change(folder):
    path = folder / "folder/b.txt"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def damage_remove(folder):
    (folder / "a.txt").unlink()


def damage_add(folder):
    (folder / "extra").write_text("")


def damage_manifest(folder):
    path = folder.parent / "manifest.json"
    path.write_text(path.read_text().replace('"amount": 3', '"amount": 4', 1))


@pytest.mark.parametrize(
    ("damage", "told"),
    [(damage_change, "b.txt was changed"), (damage_remove, "a.txt is missing"), (damage_add, "extra is extra")],
)
def test_a_changed_byte_is_named_and_the_step_runs_again(damage, told):
    step, module = make_step("source")
    first = run(step)
    damage(records.data_folder("source", first.fingerprint))
    assert any(told in fault for fault in records.verify(first))
    assert run(step, run_id="again") == first
    assert module.ran == 2
    assert records.verify(first) == []
    assert any(told in event.get("text", "") for event in read_progress(progress_path("again", "source"))[0])


def test_a_changed_manifest_is_seen():
    step, module = make_step("source")
    first = run(step)
    damage_manifest(records.data_folder("source", first.fingerprint))
    with pytest.raises(UserError, match="manifest.json was changed after it was written"):
        load_artifact("source", first.fingerprint)
    assert run(step) == first
    assert module.ran == 2


def test_an_input_whose_bytes_changed_is_not_read():
    step, _ = make_step("source")
    reader, module = make_step("reader", source="source")
    source = run(step)
    damage_change(records.data_folder("source", source.fingerprint))
    with pytest.raises(UserError, match="'source' is not what was recorded.*b.txt was changed.*run again"):
        run(reader, {"source": source})
    assert module.ran == 0


def test_killed_between_the_manifest_and_the_renaming_nothing_is_lost():
    step, module = make_step("source")
    first = run(step)
    data, work = records.data_folder("source", first.fingerprint), records.work_folder("source", first.fingerprint)
    data.rename(work)
    assert load_artifact("source", first.fingerprint) is None
    assert run(step) == first
    assert module.ran == 1
    assert data.exists()


def test_two_runs_do_not_execute_the_same_step_at_once():
    inside, most = [], []

    def waiting():
        texts = [event.get("text", "") for event in read_progress(progress_path("r", "slow"))[0]]
        return texts.count(f"waiting for process {os.getpid()}")

    def work(inputs, output, parameters, progress):
        inside.append(1)
        most.append(len(inside))
        wait_for(lambda: waiting() == 2, "the other two to meet the lock")
        (output / "a.txt").write_text("x")
        inside.pop()

    step, module = make_step("slow", work)
    made = []
    threads = [threading.Thread(target=lambda: made.append(run(step, run_id="r"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert module.ran == 1
    assert made[0] == made[1] == made[2]


def test_a_lock_goes_with_its_process():
    script = (
        "import time\nfrom components.records import lock\n"
        "with lock('slow', 'f', print):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=state.checkout(), stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waited = []
    holder.send_signal(signal.SIGKILL)
    with records.lock("slow", "f", waited.append):
        pass
    holder.wait()
    holder.stdout.close()


def fill_disk_directly(inputs, output, parameters, progress):
    with open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def fill_disk_in_a_library(inputs, output, parameters, progress):
    try:
        fill_disk_directly(inputs, output, parameters, progress)
    except OSError as error:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0") from error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("work", [fill_disk_directly, fill_disk_in_a_library])
def test_a_full_disk_is_said_so_and_loses_nothing(work, home):
    source, _ = make_step("source")
    finished = run(source)
    step, _ = make_step("full", work, source="source")
    with pytest.raises(UserError, match=f"disk is full: step 'full'.*{home}.*LINGBOT_HOME.*run again") as caught:
        run(step, {"source": finished}, run_id="r")
    assert records.verify(finished) == []
    assert report("full", caught.value, "r")["user"] is True


def test_a_full_disk_is_known_by_its_words_as_well():
    assert is_full_disk(RuntimeError("database or disk is full"))
    assert not is_full_disk(RuntimeError("the disk is slow"))
    assert not is_full_disk(OSError(2, "No such file"))


def test_parameters_are_checked_before_anything_runs(home):
    step, module = make_step("source")
    with pytest.raises(UserError, match="Did you mean 'amount'"):
        run(step, amont=3)
    with pytest.raises(UserError, match="source.amount is 'many': it must be a whole number"):
        run(step, amount="many")
    assert module.ran == 0
    assert run(step, amount=3.0).parameters["amount"] == 3


def test_errors_are_reported_with_who_can_help(home, capsys):
    report("pack", UserError("rate is 0: it must be above 0"), "r")
    report("train", RuntimeError("shapes"), "r")
    pack, train = (json.loads((home / f"runs/r/errors/{name}.json").read_text()) for name in ("pack", "train"))
    assert (pack["message"], pack["user"]) == ("rate is 0: it must be above 0", True)
    assert (train["type"], train["user"]) == ("RuntimeError", False)
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[0].removeprefix("lingbot-error: ")) == pack


def test_finished_steps_are_shared_through_storage(monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "shared"))
    step, module = make_step("source")
    reader, reading = make_step("reader", source="source")
    made = run(step)
    assert made.uri == f"{tmp_path}/shared/steps/source/{made.fingerprint}/data"

    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "another machine"))
    assert run(step) == made
    assert not records.data_folder("source", made.fingerprint).exists(), "only the manifest is needed so far"
    assert run(reader, {"source": made}).summary["read"] == ["source"]
    assert records.verify(made) == []
    assert (module.ran, reading.ran) == (1, 1)


def test_what_could_not_be_published_is_published_when_it_is_reused(monkeypatch, tmp_path):
    from components.adapters.storage import Storage

    def away(*_, **__):
        raise UserError("the storage is away")

    shared = tmp_path / "shared"
    monkeypatch.setenv("LINGBOT_STORAGE", str(shared))
    step, module = make_step("source")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="the storage is away"):
        patch.setattr(Storage, "put_folder", away)
        run(step)
    made = run(step)
    assert module.ran == 1, "it was finished, and only not published"
    stored = shared / "steps/source" / made.fingerprint
    assert (stored / "manifest.json").read_bytes() == made.to_bytes() and (stored / "data/a.txt").exists()
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "another machine"))
    assert run(step) == made and module.ran == 1


def test_changed_bytes_in_storage_are_not_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "shared"))
    step, _ = make_step("source")
    reader, reading = make_step("reader", source="source")
    made = run(step)
    damage_change(tmp_path / "shared/steps/source" / made.fingerprint / "data")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "another machine"))
    with pytest.raises(UserError, match="b.txt"):
        run(reader, {"source": made})
    assert reading.ran == 0
    assert not records.data_folder("source", made.fingerprint).exists()


def test_a_dataset_counts_by_its_bytes_and_not_by_its_name(tmp_path):
    step, module = make_step("source")
    step = type(step)(**{**step.__dict__, "sources": ("label",)})
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("one")
    first = run(step, label=str(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "moved")
    assert run(step, label=str(tmp_path / "moved")) == first
    (tmp_path / "moved/file").write_text("two")
    assert run(step, label=str(tmp_path / "moved")) != first
    assert module.ran == 2
    with pytest.raises(UserError, match="source.label is '/nowhere': there is no such file or folder"):
        run(step, label="/nowhere")
