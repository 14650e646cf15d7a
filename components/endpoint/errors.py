"""What the endpoint refuses, with the HTTP status. The message is for the client: one sentence with the fix."""

from model.errors import UserError

_MAX_SENTENCE = 1200  # letters


class Refused(UserError):
    """A request that is not answered with actions. `status` is its HTTP status; a websocket gets the text alone."""

    status = 400
    retry_after: int | None = None

    def __init__(self, message: str) -> None:
        # Sentences quote what a client sent: on one line, so that it cannot write lines of its own into a log.
        text = "".join(letter if letter.isprintable() else " " for letter in message[:_MAX_SENTENCE])
        super().__init__(text)


class BadMessage(Refused):
    """The bytes are no message of the protocol."""


class BadObservation(Refused):
    """The message can be read, but its observation does not fit the contract of the policy."""

    status = 422


class TooSlow(Refused):
    """The body did not arrive in time."""

    status = 408


class TooLarge(Refused):
    status = 413


class UnknownType(Refused):
    """The body is of a content type that is not served."""

    status = 415


class Unauthorized(Refused):
    """No key, or one that is not known."""

    status = 401


class Forbidden(Refused):
    """Known, but not allowed to do this."""

    status = 403


class NotServed(Refused):
    """What a path names is not here: a model, a version, a registry."""

    status = 404


class TooMany(Refused):
    """One client asks more than its share. `retry_after` is in seconds."""

    status = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(Refused):
    """Nothing is wrong with the request: the server cannot take it now. `retry_after` is in seconds."""

    status = 503

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(Unavailable):
    """The answer was not begun before its deadline: the model was never asked."""


class Superseded(Refused):
    """The same robot sent a newer observation before the model was asked about this one."""

    status = 409


class UnsafeAction(Refused):
    """The policy gave an answer that may not reach a robot. The fault is the server's.

    `reason` is shape, not_finite, position or velocity; `values` is how many were at fault.
    """

    status = 500

    def __init__(self, message: str, *, reason: str, values: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.values = values
