"""A websocket server that does what a script says: what an endpoint does when something goes wrong."""

import http
import threading
from contextlib import contextmanager

import numpy as np
from websockets.sync.server import serve

from lingbot_client.codec import pack, unpack

CONTRACT = {
    "robot": "two_joints",
    "cameras": [{"name": "cam_high", "height": 32, "width": 32}],
    "state": ["left", "right"],
    "action": ["left", "right"],
    "horizon": 4,
    "control_hz": 10.0,
    "tasks": ["wave"],
    "normalization_digest": "n1",
}
METADATA = {
    "server": "lingbot-pipelines",
    "model_name": "m",
    "model_version": "1",
    "bundle_digest": "digest-1",
    "contract": CONTRACT,
}


def chunk(value=0.5):
    return np.full((4, 2), value, np.float32)


class Close(Exception):
    """The script closes the connection with this code."""

    def __init__(self, code, reason=""):
        super().__init__(code, reason)


class Vanish(Exception):
    """The connection is cut without a word."""


class Silence(Exception):
    """No reply is sent."""


class Script:
    """Answers by `answer(message, number)`; keeps what it saw. `metadata(number)` greets connection `number`."""

    def __init__(self, answer, metadata):
        self.answer, self.metadata = answer, metadata
        self.messages = []
        self.connections = 0
        self.deny = []  # one response (status, headers, body) for each of the next handshakes
        self.handshakes = []
        self.sockets = []

    def handle(self, socket):
        self.connections += 1
        self.sockets.append(socket)
        greeting = self.metadata(self.connections)
        socket.send(greeting if isinstance(greeting, (str, bytes)) else pack(greeting))
        for frame in socket:
            self.messages.append(unpack(frame))
            try:
                reply = self.answer(self.messages[-1], len(self.messages))
            except Close as close:
                socket.close(*close.args)
                return
            except Vanish:
                socket.socket.close()
                return
            except Silence:
                continue
            socket.send(reply if isinstance(reply, (str, bytes)) else pack(reply))

    def process_request(self, connection, request):
        self.handshakes.append(request.headers)
        if not self.deny:
            return None
        status, headers, body = self.deny.pop(0)
        response = connection.respond(http.HTTPStatus(status), body)
        for name, value in headers.items():
            response.headers[name] = value
        return response


def good(message, number):
    if message.get("reset"):
        return {"action": None, "actions": None, "status": "reset successful"}
    return {"actions": chunk(), "bundle_digest": "digest-1", "model_version": "1"}


@contextmanager
def scripted(answer=good, metadata=lambda number: METADATA, port=0):
    """A script that runs, with its `url`."""
    script = Script(answer, metadata)
    with serve(script.handle, "127.0.0.1", port, process_request=script.process_request) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        script.port = server.socket.getsockname()[1]
        script.url = f"ws://127.0.0.1:{script.port}"
        try:
            yield script
        finally:
            server.shutdown()
            for socket in script.sockets:  # of clients that a failed test left open
                socket.close()
            thread.join()
