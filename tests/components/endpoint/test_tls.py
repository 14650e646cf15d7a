"""https and wss with a certificate that is renewed while the server runs."""

import asyncio
import datetime
import ipaddress
import os
import socket
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.sync.client import connect

from components.endpoint.codec import pack, unpack
from components.endpoint.tls import TlsContext, TlsFiles
from lingbot_client import ClientError, PolicyClient
from model.errors import UserError
from tests.components.waiting import LONG, turn_until


def write_pair(folder, name="server", passphrase=None):
    """A self-signed certificate for 127.0.0.1 and its key; the certificate's serial number."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "endpoint")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (folder / f"{name}.key").write_bytes(pem)
    return TlsFiles(certificate=folder / f"{name}.pem", key=folder / f"{name}.key"), certificate.serial_number


def serial_at(host, files):
    address, port = host.split(":")
    trusting = ssl.create_default_context(cafile=files.certificate)
    with socket.create_connection((address, int(port)), timeout=LONG) as plain:
        with trusting.wrap_socket(plain, server_hostname=address) as secured:
            found = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
            return found.serial_number, secured.version()


def test_robots_and_http_speak_through_tls_and_renewal_needs_no_restart(tmp_path, start, slow_bundle, observation):
    files, serial = write_pair(tmp_path)
    context = TlsContext(files)
    server = start(slow_bundle(), tls=context.context)
    trusting = ssl.create_default_context(cafile=files.certificate)
    assert httpx.get(f"https://{server.host}/readyz", verify=trusting, timeout=LONG, trust_env=False).status_code == 200
    with connect(f"wss://{server.host}/", ssl=trusting, compression=None, open_timeout=LONG, proxy=None) as robot:
        assert unpack(robot.recv())["model_version"] == "7"
        assert context.look() is False
        _, renewed = write_pair(tmp_path)
        assert context.look() is True
        robot.send(pack(observation))  # the connection that stands is not touched
        assert unpack(robot.recv())["actions"].shape == (10, 14)
    assert serial_at(server.host, files) == (renewed, "TLSv1.3") and renewed != serial
    with pytest.raises(ClientError, match=r"cannot be trusted \(CERTIFICATE_VERIFY_FAILED\): .* SSL_CERT_FILE or tls="):
        PolicyClient(f"wss://{server.host}")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://{server.host}/readyz", timeout=LONG, trust_env=False)


def test_what_cannot_be_used_leaves_what_is(tmp_path, caplog):
    files, _ = write_pair(tmp_path)
    context = TlsContext(files)
    write_pair(tmp_path, "other")
    os.replace(tmp_path / "other.key", files.key)  # the key of another certificate
    assert [context.look() for _ in range(3)] == [False] * 3
    assert caplog.text.count("cannot be used") == 1
    write_pair(tmp_path)
    assert context.look() is True


def test_files_that_do_not_fit_are_one_sentence(tmp_path):
    files, _ = write_pair(tmp_path)
    write_pair(tmp_path, "other")
    locked, _ = write_pair(tmp_path, "locked", passphrase=b"secret")
    for wrong in (
        TlsFiles(certificate=files.certificate, key=tmp_path / "other.key"),
        TlsFiles(certificate=tmp_path / "absent.pem", key=files.key),
        locked,
    ):
        with pytest.raises(UserError, match=r"PEM files that belong together"):
            TlsContext(wrong)
    with pytest.raises(UserError, match="go together"):
        TlsFiles.of(files.certificate, None)
    assert TlsFiles.of(None, None) is None


def test_following_looks_until_it_is_cancelled(tmp_path, monkeypatch):
    from components.endpoint import tls

    files, _ = write_pair(tmp_path)
    context = TlsContext(files)
    monkeypatch.setattr(tls, "CHECK_SECONDS", 0.01)

    async def main():
        before = files.stamp()
        following = asyncio.create_task(context.follow())
        write_pair(tmp_path, "renewed")
        for suffix in (".pem", ".key"):
            os.replace(tmp_path / f"renewed{suffix}", tmp_path / f"server{suffix}")
        assert files.stamp() != before
        await turn_until(lambda: context._stamp == files.stamp(), "the renewed files to be read")
        following.cancel()

    asyncio.run(main())
