"""One websocket to an endpoint: the first frame, then a reply for each message."""

import math
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from lingbot_client.codec import unpack
from lingbot_client.errors import BadReply, ClientError, NoReply, NotAllowed, Refused

MAX_REPLY_BYTES = 2**24
# The same message may be sent again after these: normal, going away, no code, lost, restart, try later, bad gateway.
_PASSING = frozenset((1000, 1001, 1005, 1006, 1012, 1013, 1014))
_TRY_LATER = frozenset((429, 502, 503, 504))
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


class Lost(Exception):
    """The connection went, or could not be made; another one may do. `seconds` is what the server asked to wait."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


def websocket_url(url: str) -> str:
    """`url` as ws:// or wss://; http:// and https:// are taken for them.

    Raises:
        ValueError: it is none of these.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES or not rest:
        raise ValueError(f"'{url}' is no endpoint's address: write ws://HOST:PORT, or wss://HOST:PORT with TLS")
    return f"{_SCHEMES[scheme]}://{rest}"


@dataclass(frozen=True)
class Address:
    """Where the endpoint is, and what it wants to see of us."""

    url: str
    key: str = ""
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if not all("!" <= character <= "~" for character in self.key):
            raise ValueError(
                "the key has a space, a line break or another character that no key has: give it as `lingbot keys add` "
                "printed it"
            )

    def open(self, seconds: float) -> "Connection":
        """Connects and reads the first frame, all in `seconds`.

        Raises:
            Lost: nobody there, or not now.
            NotAllowed: no key, or a wrong one.
            ClientError: something else than an endpoint answers.
        """
        headers = {"Authorization": f"Api-Key {self.key}"} if self.key else {}
        until = time.monotonic() + seconds
        with ExitStack() as stack:
            try:
                socket = stack.enter_context(
                    connect(
                        self.url,
                        additional_headers=headers,
                        open_timeout=seconds,
                        compression=None,  # camera images hardly shrink
                        max_size=MAX_REPLY_BYTES,
                        proxy=None,  # a robot's endpoint is on its own network
                        ssl=self.tls,
                    )
                )
                greeting = socket.recv(timeout=max(0.0, until - time.monotonic()))
            except InvalidStatus as refusal:
                raise _denied(self.url, refusal) from refusal
            except ssl.SSLCertVerificationError as error:
                raise ClientError(
                    f"{self.url} cannot be trusted ({error.reason or error}): name the certificate that signed its own "
                    "with SSL_CERT_FILE or tls="
                ) from error
            except ssl.SSLEOFError as error:  # as when a server restarts
                raise Lost(f"{type(error).__name__}: {error}") from error
            except ssl.SSLError as error:
                raise ClientError(
                    f"{self.url} does not speak our TLS ({error.reason or error}): write ws:// where it has none"
                ) from error
            except (OSError, TimeoutError, WebSocketException) as error:
                raise Lost(f"{type(error).__name__}: {error}") from error
            metadata = unpack(greeting) if isinstance(greeting, bytes) else None
            if not isinstance(metadata, dict):
                raise BadReply(f"{self.url} does not begin with a map of metadata: it is no endpoint for robots")
            return Connection(socket, metadata, stack.pop_all())


class Connection:
    """An open one. `metadata` is its first frame. For one thread."""

    def __init__(self, socket: ClientConnection, metadata: dict[str, Any], held: ExitStack) -> None:
        self._socket = socket
        self._held = held
        self.metadata = metadata

    def ask(self, frame: bytes, seconds: float) -> bytes | str:
        """The reply to one message. After any error the connection must be closed: a reply may be under way.

        Raises:
            Lost: the connection went; the message may be sent again.
            NoReply: nothing came in time.
            Refused: the server closed because of the message.
        """
        try:
            self._socket.send(frame)
            return self._socket.recv(timeout=seconds)
        except TimeoutError as error:
            raise NoReply(f"no reply within {seconds:.3g} s") from error
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 1006
            reason = closed.rcvd.reason if closed.rcvd is not None else "the connection was lost"
            if code in _PASSING:
                raise Lost(f"closed with {code}: {reason}") from closed
            raise Refused(
                f"the server closed the connection with code {code}: {reason or 'no reason given'}"
            ) from closed
        except OSError as error:
            raise Lost(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._held.close()


def _denied(url: str, refusal: InvalidStatus) -> Exception:
    status = refusal.response.status_code
    body = (refusal.response.body or b"").decode("utf-8", "replace").strip()[:300]
    if status in (401, 403):
        return NotAllowed(f"{url} does not let us in ({status}): give the key of this robot. {body}".strip())
    if status in _TRY_LATER:
        return Lost(f"{status}: {body or 'not now'}", _seconds(refusal.response.headers.get("Retry-After")))
    return ClientError(f"{url} answers with HTTP {status} instead of a websocket: check the address. {body}".strip())


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After header; None when it holds none (a date, or nonsense)."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
