"""What looks like a credential is refused where it would be recorded, and blotted out of what is."""

import pytest

from components import typed
from components.secrets import redacted, refuse_in_address
from components.steps import check_value
from model.errors import UserError


@pytest.mark.parametrize(
    "address",
    [
        "s3://robot:hidden-word@bucket/data",
        "https://robot:hidden-word@mlflow.example/",
        "https://bucket.example/a?X-Amz-Credential=robot&X-Amz-Signature=hidden-word",
        "https://store.example/a?sv=1&sig=hidden-word",
    ],
)
def test_an_address_with_credentials_is_no_parameter(address: str) -> None:
    with pytest.raises(UserError, match=r"^ingest\.dataset is an address that holds credentials: give it") as caught:
        check_value("ingest.dataset", address, str)
    assert "hidden-word" not in str(caught.value)
    assert "hidden-word" not in redacted(f"cannot reach {address} today")


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a@b", "data/cubes-v1", "pick up the cup @ home", "http://mlflow:5000/?token_count=3"],
)
def test_what_is_no_credential_passes(text: str) -> None:
    refuse_in_address("ingest.dataset", text)
    assert redacted(text) == text


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN"])
def test_a_profile_gives_no_credential_by_value(variable: str) -> None:
    with pytest.raises(
        UserError, match=rf"environment\.{variable} would be recorded.*secrets \({variable}: "
    ) as caught:
        typed.environment({variable: "hidden-word"}, {})
    assert "hidden-word" not in str(caught.value)


def test_a_profile_gives_other_variables_by_value() -> None:
    typed.environment(
        {"LINGBOT_API_KEYS_FILE": "/keys", "TOKENIZERS_PARALLELISM": "false", "MLFLOW_TRACKING_URI": "http://m:5000"},
        {},
    )
    with pytest.raises(UserError, match=r"environment\.MLFLOW_TRACKING_URI is an address that holds credentials"):
        typed.environment({"MLFLOW_TRACKING_URI": "http://me:hidden-word@m:5000"}, {})


def test_values_of_secret_variables_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "hidden-word")
    monkeypatch.setenv("SHORT_PASSWORD", "cube")
    monkeypatch.setenv("KEYS_FILE", "/etc/keys-of-robots")
    assert redacted("hidden-word of a cube in /etc/keys-of-robots") == "*** of a cube in /etc/keys-of-robots"
