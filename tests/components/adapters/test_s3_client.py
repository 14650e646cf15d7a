"""How S3 is reached: addresses by path at a store of one's own, and no credentials in an address."""

import re
from pathlib import Path

import pytest

from components.adapters import s3_client
from components.adapters.filesystem import s3_filesystem
from components.adapters.storage import Storage
from model.errors import UserError


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.lingbot.svc:9000")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "robot")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def address() -> str:
    return str(s3_client.client().generate_presigned_url("get_object", Params={"Bucket": "artefacts", "Key": "a"}))


def test_a_store_of_ones_own_is_asked_by_path() -> None:
    assert address().startswith("http://minio.lingbot.svc:9000/artefacts/a?")
    assert s3_filesystem().config_kwargs["s3"] == {"addressing_style": "path"}


def test_amazon_is_asked_as_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert address().startswith("https://artefacts.s3.amazonaws.com/a?")


def test_the_addressing_style_of_the_configuration_counts(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    assert address().startswith("http://artefacts.minio.lingbot.svc:9000/a?")


def test_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "rbot")
    with pytest.raises(UserError, match="AWS_PROFILE is 'rbot', and AWS's files hold no such profile"):
        Storage.from_url("s3://artefacts")


@pytest.mark.parametrize("url", ["minio:9000", "http://", "http://[::1", "http://minio:90000"])
def test_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(UserError, match=rf"AWS_ENDPOINT_URL_S3 is '{re.escape(url)}': it must be http://host:port"):
        Storage.from_url("s3://artefacts")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_REGION", "eu west", "InvalidRegionError: .*'eu west'"),
        ("AWS_MAX_ATTEMPTS", "many", "ValueError: .*'many'"),
    ],
)
def test_settings_that_are_none_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"the settings of S3 are not accepted \({said}.*: correct AWS_\*, or AWS's"):
        Storage.from_url("s3://artefacts")


def test_a_configuration_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("region = x\n")
    with pytest.raises(UserError, match="the settings of S3 are not accepted .*config"):
        Storage.from_url("s3://artefacts")


def test_a_storage_that_is_no_address_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"storage 's3://\[artefacts' is no address: give a folder or s3://bucket"):
        Storage.from_url("s3://[artefacts")


@pytest.mark.parametrize(
    "url",
    ["s3://robot:not-to-be-shown@artefacts/x", "s3://artefacts/x?X-Amz-Signature=not-to-be-shown"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match="the storage is an address that holds credentials") as caught:
        Storage.from_url(url)
    assert "not-to-be-shown" not in str(caught.value)


def test_credentials_in_the_endpoint_are_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://robot:not-to-be-shown@minio:9000")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL is an address that holds credentials") as caught:
        Storage.from_url("s3://artefacts")
    assert "not-to-be-shown" not in str(caught.value)


def test_name_that_is_no_bucket() -> None:
    with pytest.raises(UserError, match="storage 's3://My_Bucket/x' names no bucket: it has 3 to 63 small letters"):
        Storage.from_url("s3://My_Bucket/x")
