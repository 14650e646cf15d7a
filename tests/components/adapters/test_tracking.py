"""MLflow as it is: a real sqlite registry."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import threading

import pytest

from components.adapters import tracking
from model.errors import UserError
from tests.registry_house import home, registry_template  # noqa: F401

pytestmark = pytest.mark.usefixtures("home")
MODEL = "lingbot-vla-test"


def register(digest="d1", evaluation="e1", **tags):
    return tracking.register_version(
        MODEL,
        uri=f"file:///nowhere/{digest}",
        digest=digest,
        tags={"evaluation_digest": evaluation, **tags},
        identity=("evaluation_digest",),
    )


def test_a_version_is_a_uri_a_digest_and_tags():
    made = register(git_commit="abc")
    assert (made.model, made.version, made.uri, made.digest) == (MODEL, "1", "file:///nowhere/d1", "d1")
    assert made.tags["git_commit"] == "abc" and made.created > 1e9
    assert tracking.get_version(MODEL, "v1") == made
    assert tracking.list_models() == (MODEL,) and tracking.only_model() == MODEL


def test_the_same_bundle_and_evidence_is_one_version():
    first = register()
    assert register() == first
    assert register(evaluation="e2").version == "2"
    assert register(digest="d2").version == "3"
    assert [version.version for version in tracking.list_versions(MODEL)] == ["1", "2", "3"]


def test_two_registrations_at_once_make_one_version():
    register(digest="other")
    made = []
    threads = [threading.Thread(target=lambda: made.append(register().version)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["2"] * 4


def test_aliases():
    register()
    register(digest="d2")
    assert tracking.version_of_alias(MODEL, "champion") is None
    tracking.set_alias(MODEL, "champion", "1")
    assert tracking.version_of_alias(MODEL, "champion").version == "1"
    tracking.set_alias(MODEL, "champion", "2")
    tracking.set_alias(MODEL, "spare", "2")
    assert tracking.version_of_alias(MODEL, "champion").aliases == ("champion", "spare")
    assert tracking.get_version(MODEL, "1").aliases == ()
    for reserved in ("latest", "v3"):
        with pytest.raises(UserError, match="reserved by MLflow"):
            tracking.set_alias(MODEL, reserved, "1")


def test_tags_can_be_added_later():
    version = register()
    tracking.tag_version(version, {"verdict": "x" * 6000})
    assert tracking.get_version(MODEL, "1").tags["verdict"] == "x" * 6000


def test_more_versions_than_a_page():
    for number in range(3):
        register(digest=f"d{number}")
    # MLflow's own pages hold thousands; what is tested is that pages are joined.
    pages = {None: ([1, 2], "next"), "next": ([3], None)}

    class Page(list):
        token = None

    def search(token):
        items, following = pages[token]
        page = Page(items)
        page.token = following
        return page

    assert tracking._pages(search) == [1, 2, 3]


def test_runs_are_recorded_once_a_key(home):
    def log():
        return tracking.log_run(
            name="a run", key="k1", parameters={"steps": 3}, metrics={"closed_loop/policy/sr": 0.5}, tags={"task": "t"}
        )

    first = log()
    assert log() == first
    other = tracking.log_run(name="a run", key="k2", parameters={}, metrics={}, tags={})
    assert other != first
    with tracking.connection() as client:
        run = client.get_run(first)
    assert run.data.metrics == {"closed_loop/policy/sr": 0.5}
    assert run.data.params == {"steps": "3"} and run.data.tags["task"] == "t"
    assert run.info.status == "FINISHED"
    assert str(home) in run.info.artifact_uri  # nothing is made in the folder that the command ran in


def test_unknown_names_are_errors_with_the_nearest():
    with pytest.raises(tracking.NoModel, match="no model is registered in sqlite:///"):
        tracking.only_model()
    with pytest.raises(UserError, match="has no version yet"):
        tracking.get_version(MODEL, "1")
    register()
    with pytest.raises(UserError, match="unknown version of lingbot-vla-test '7'"):
        tracking.get_version(MODEL, "7")
    with pytest.raises(UserError, match="Did you mean 'lingbot-vla-test'"):
        tracking.get_version("lingbot-vla-tset", "1")
    tracking.register_version("lingbot-vla-other", uri="u", digest="d", tags={})
    with pytest.raises(UserError, match="choose one with --model: lingbot-vla-other, lingbot-vla-test"):
        tracking.only_model()


def test_an_address_is_shown_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@mlflow.example/path")
    assert tracking.shown_uri() == "https://mlflow.example/path"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "/srv/mlruns")
    assert tracking.shown_uri() == "/srv/mlruns"


def test_a_registry_that_is_away_is_one_sentence_without_the_password(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(UserError, match="refused or cannot be reached") as error:
        tracking.list_versions(MODEL)
    assert str(error.value) == (
        "the registry http://127.0.0.1:9 refused or cannot be reached: Failed to establish a new connection: [Errno "
        "111] Connection refused; start its server, or set MLFLOW_TRACKING_URI to one that answers"
    )
    assert not caplog.records, "it is said once, by who asked"


@pytest.mark.parametrize(
    ("wrapped", "cause"),
    [
        (
            "HTTPSConnectionPool(host='h', port=1): Max retries exceeded with url: /a (Caused by NameResolutionError("
            "\"HTTPSConnection(host='h', port=1): Failed to resolve 'h' ([Errno -2] Name or service not known)\"))",
            "Failed to resolve 'h' ([Errno -2] Name or service not known)",
        ),
        ("Max retries exceeded (Caused by ResponseError('too many 503 responses'))", "too many 503 responses"),
        ("RESOURCE_DOES_NOT_EXIST: no such thing", "RESOURCE_DOES_NOT_EXIST: no such thing"),
    ],
)
def test_the_cause_is_told_and_not_its_wrapping(wrapped, cause):
    assert tracking._cause(wrapped) == cause


def test_a_registry_whose_file_is_no_database_is_one_sentence(home):
    (home / "mlflow.db").write_text("no database, whatever wrote it " * 9)
    with pytest.raises(tracking.RegistryUnavailable, match=r"file is not a database; restore it from a copy$"):
        tracking.list_models()
