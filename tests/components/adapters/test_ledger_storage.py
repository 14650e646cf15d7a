"""The ledger in the shared storage: several machines, no lock, one chain."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from components import ledger_log
from components.adapters import tracking
from components.adapters.storage import FolderStorage, Storage
from components.ledger import PROMOTE, Ledger
from components.ledger_log import FileLog, StoredLog
from model.errors import UserError
from tests.registry_house import home, registry_template  # noqa: F401


@pytest.fixture(autouse=True)
def nothing_read_before():
    ledger_log._read_before.clear()


@pytest.fixture(params=["folder", "s3"])
def address(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "storage")
    request.getfixturevalue("s3")
    return "s3://artefacts/pipelines"


def ledger_of(address, tmp_path, machine="one"):
    """The ledger as one machine sees it: a client of its own, a home of its own."""
    earlier = FileLog(tmp_path / machine / "ledger.jsonl")
    return Ledger(StoredLog(Storage.from_url(address), "registry", earlier))


def move(ledger, target, **more):
    return ledger.append(
        action=PROMOTE, model="m", alias="champion", source=None, target=target, bundle_digest="b", evidence=None,
        reasons=("because",), **more,
    )  # fmt: skip


def test_two_machines_write_one_chain(address, tmp_path):
    one, two = ledger_of(address, tmp_path), ledger_of(address, tmp_path, "two")
    made = (move(one, "1"), move(two, "2"), move(one, "3"))
    assert one.entries() == two.entries() == made
    assert [entry.sequence for entry in made] == [1, 2, 3]
    keys = [file.key for file in Storage.from_url(address).list("ledger")]
    assert keys == [f"ledger/registry/0000000{number}.json" for number in (1, 2, 3)] + [
        "ledger/registry/conditional-writes"
    ]


def test_writers_at_once_keep_the_chain(address, tmp_path):
    def write(number):
        move(ledger_of(address, tmp_path, str(number)), str(number))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(9)))
    entries = ledger_of(address, tmp_path).entries()
    assert [entry.sequence for entry in entries] == list(range(1, 10))
    assert {entry.target for entry in entries} == {str(number) for number in range(9)}


def test_a_poller_reads_each_line_of_a_bucket_once(s3, tmp_path):
    ledger = ledger_of("s3://artefacts/pipelines", tmp_path)
    for number in range(3):
        move(ledger, str(number))
    ledger.entries()
    s3.requests.clear()
    assert len(ledger_of("s3://artefacts/pipelines", tmp_path).entries()) == 3
    assert len(s3.requests) == 1, "the listing alone"


@pytest.mark.parametrize("damage", ["gone", "changed", "cut off"])
def test_damage_is_seen_and_nothing_is_built_on_it(address, tmp_path, damage):
    ledger = ledger_of(address, tmp_path)
    for number in ("1", "2", "3"):
        move(ledger, number)
    storage, key = ledger.log.storage, "ledger/registry/00000002.json"
    content = storage.read_bytes(key)
    if damage == "changed":
        storage.write_bytes(key, content.replace(b'"target":"2"', b'"target":"9"'))
    elif damage == "cut off":
        storage.write_bytes(key, content[:40])
    elif isinstance(storage, FolderStorage):
        (storage.root / key).unlink()
    else:
        storage.client.delete_object(Bucket="artefacts", Key=f"pipelines/{key}")
    said = {"gone": "0002.json is gone", "changed": "0003.json does not continue", "cut off": "0002.json is not an"}
    for reader in (ledger, ledger_of(address, tmp_path, "two")):
        with pytest.raises(UserError, match=said[damage]):
            move(reader, "4")


def test_an_answer_that_was_lost_is_no_second_writer(s3, tmp_path, monkeypatch):
    """The transport sends again what got no answer; the second sending finds the first one's object."""
    ledger = ledger_of("s3://artefacts/pipelines", tmp_path)
    client = ledger.log.storage.client
    ledger.log._check_conditional()
    put = client.put_object

    def twice(**request):
        put(**request)
        return put(**request)

    monkeypatch.setattr(client, "put_object", twice)
    entry = move(ledger, "1")
    assert ledger.entries() == (entry,)


def test_a_write_that_meets_another_one_is_sent_again(s3, tmp_path, monkeypatch):
    ledger = ledger_of("s3://artefacts/pipelines", tmp_path)
    ledger.log._check_conditional()
    client, put, answers = ledger.log.storage.client, ledger.log.storage.client.put_object, ["conflict"]

    def conflicting(**request):
        if answers:
            raise ClientError({"Error": {"Code": answers.pop() and "ConditionalRequestConflict"}}, "PutObject")
        return put(**request)

    monkeypatch.setattr(client, "put_object", conflicting)
    assert move(ledger, "1").sequence == 1 and not answers


def test_lines_from_before_there_was_a_storage_are_taken_over(address, tmp_path):
    earlier = Ledger(FileLog(tmp_path / "one" / "ledger.jsonl"))
    move(earlier, "1"), move(earlier, "2")
    ledger = ledger_of(address, tmp_path)
    assert [entry.target for entry in ledger.entries()] == ["1", "2"]
    move(ledger, "3")
    assert [entry.target for entry in ledger_of(address, tmp_path, "two").entries()] == ["1", "2", "3"]


def test_a_store_that_ignores_conditions_is_refused(tmp_path):
    class Careless(FolderStorage):
        def write_bytes(self, key, data, *, if_absent=False):
            return super().write_bytes(key, data)

    log = StoredLog(Careless(tmp_path / "storage"), "registry", FileLog(tmp_path / "none"))
    with pytest.raises(UserError, match="If-None-Match"):
        move(Ledger(log), "1")
    assert log.lines() == []


def test_registries_that_share_a_storage_have_a_ledger_each(home, registry_template, address, tmp_path, monkeypatch):
    monkeypatch.setenv("LINGBOT_STORAGE", address)
    first = tracking.registry_id()
    move(Ledger(), "1")
    assert Ledger().log.where == f"{address}/ledger/{first}" and tracking.registry_id() == first
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("LINGBOT_HOME", str(other))
    (other / "mlflow.db").write_bytes(registry_template.read_bytes())
    assert tracking.registry_id() != first
    assert Ledger().entries() == ()
