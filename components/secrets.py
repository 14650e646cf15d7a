"""Credentials stay where they are given: what looks like one is refused where it would be recorded, and blotted out.

They belong in the environment, in files that tools read, and in Secrets of a cluster; never in an address, a parameter
or a profile, which go into records, logs and artefacts.
"""

import os
import re

from model.errors import UserError

_NAME = re.compile(r"(key|token|secret|password|passwd|credential)", re.IGNORECASE)
# Names that only look like it: a key's place, its public half, how many tokens.
_PUBLIC = re.compile(r"(_FILE|_PATH|_DIR|_URI|_URL|PUBLIC_KEY|TOKENS|PARALLELISM)$", re.IGNORECASE)
_PASSWORD = re.compile(r"(\w+://)[^/@\s]+@")
_SIGNED = re.compile(
    r"(?P<name>[?&](?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|sig|token|password)=)[^&\s]*",
    re.IGNORECASE,
)
_SHORTEST = 8  # a shorter value stands in too many words to be blotted out
BLOT = "***"


def is_secret_name(name: str) -> bool:
    """Whether a variable or an option of this name holds a credential."""
    return bool(_NAME.search(name))


def refuse_in_address(name: str, value: str) -> None:
    """UserError when a value is an address with a user, a password or a signature in it; it does not repeat them."""
    if _PASSWORD.search(value) or ("://" in value and _SIGNED.search(value)):
        raise UserError(
            f"{name} is an address that holds credentials: give it without them, and them in the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)."
        )


def refuse_in_settings(name: str, variable: str, value: str) -> None:
    """UserError when a variable of a settings file, which is recorded, holds a credential by value."""
    refuse_in_address(f"{name}.{variable}", value)
    if is_secret_name(variable) and not _PUBLIC.search(variable):
        raise UserError(
            f"{name}.{variable} would be recorded with its value: put the value into a Secret and name that under "
            f"secrets ({variable}: secret/key)."
        )


def redacted(text: str) -> str:
    """The text without the values of this process's secret variables, and without credentials in addresses."""
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and is_secret_name(name) and not _PUBLIC.search(name)
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, BLOT)
    return _SIGNED.sub(rf"\g<name>{BLOT}", _PASSWORD.sub(rf"\1{BLOT}@", text))
