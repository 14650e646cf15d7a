"""TLS by option: a certificate and its key, read again when they are renewed."""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError

CHECK_SECONDS = 10.0
logger = logging.getLogger("lingbot.endpoint")


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files: the certificate with its chain, and its private key without a passphrase."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None) -> "TlsFiles | None":
        """Both, or None when neither is given.

        Raises:
            UserError: one of them alone.
        """
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise UserError("--tls-certificate and --tls-key go together: give both files, or neither for plain HTTP")
        return cls(certificate=certificate, key=key)

    def stamp(self) -> tuple[float, ...]:
        """What changes when a file does."""
        found = [os.stat(path) for path in (self.certificate, self.key)]
        return tuple(number for status in found for number in (status.st_mtime_ns, status.st_size, status.st_ino))


class TlsContext:
    """The server's side of TLS 1.2 or later.

    Raises:
        UserError: files that cannot be read, or that do not belong together.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._refused: str | None = None  # why the files cannot be used, as it was said last
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._stamp = files.stamp()
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            raise UserError(
                f"the certificate {files.certificate} and its key {files.key} cannot be used: {_reason(error)}; give "
                f"PEM files that belong together, the key without a passphrase"
            ) from error

    async def follow(self) -> None:
        """Looks for renewed files until it is cancelled; connections that stand keep what they have."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.look()

    def look(self) -> bool:
        """Reads the files again if they changed; whether they were taken. What cannot be used leaves what is."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return False
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a pair that does not fit must not spoil the context
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            reason = _reason(error)
            if reason != self._refused:  # once, not at each look
                logger.error("the renewed certificate %s cannot be used: %s", self._files.certificate, reason)
            self._refused = reason
            return False
        self._stamp, self._refused = stamp, None
        logger.warning("the certificate %s was read again", self._files.certificate)
        return True

    def _load(self, context: ssl.SSLContext) -> None:
        # The callback is asked for a passphrase: without one a key that has one would make the server wait at a prompt.
        context.load_cert_chain(self._files.certificate, self._files.key, password=lambda: "")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
