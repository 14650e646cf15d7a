"""A recording through a candidate, before it is promoted: what would the robots have been sent instead?"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.endpoint.batching import infer
from components.endpoint.contract import Contract
from components.endpoint.errors import Refused, UnsafeAction
from components.endpoint.guard import guard
from components.endpoint.observations import Request, read_requests
from components.endpoint.realtime import RunningChunk, read_running
from components.endpoint.recording import Exchange, Recording
from components.endpoint.replay_figures import SCHEMA_VERSION, Look, figures
from components.endpoint.served import Served
from model.errors import UserError
from model.progress import Progress

AGAIN_EVERY = 4
"""The candidate answers every fourth look with other noise too: how far it is from itself."""
_REASONS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class _Question:
    """One recorded observation with its answer."""

    exchange: Exchange
    number: int
    request: Request
    running: RunningChunk | None
    seed: int
    sent: np.ndarray


def replay(recording: Recording, candidate: Served, *, most: int = 0, progress: Progress) -> dict[str, Any]:
    """Asks a candidate every recorded observation with the noise that was drawn for it, and compares the answers.

    Args:
        recording: of an endpoint.
        candidate: loaded.
        most: observations to ask; 0: all.
        progress: told how far it is.

    Returns:
        The report: `recording` and `candidate` (names and digests), `refused` and `unsafe` (how many, and the first
        reasons), and the figures of `replay_figures`.

    Raises:
        UserError: another robot's recording, a damaged one, or none of its observations was answered.
    """
    _check_contract(recording, candidate.contract)
    contract = candidate.contract
    looks: list[Look] = []
    refused: list[str] = []
    unsafe: list[str] = []
    times: list[float] = []
    versions: dict[str, int] = {}
    total = min(most, len(recording)) if most else len(recording)
    for question in _questions(recording, contract, refused):
        if most and len(times) >= most:
            break
        times.append(question.exchange.time)
        version = str(question.exchange.reply.get("model_version"))
        versions[version] = versions.get(version, 0) + 1
        try:
            looks.append(_look(question, candidate, again=len(times) % AGAIN_EVERY == 1))
        except UnsafeAction as error:
            unsafe.append(str(error))
        progress.update(len(times), total)
    if not looks:
        why = (refused + unsafe or ["it holds no observation"])[0]
        raise UserError(f"nothing of {recording.path} was answered by version {candidate.model_version}: {why}")
    return {
        "schema_version": SCHEMA_VERSION,
        "recording": {
            "digest": recording.digest(),
            "first": min(times),
            "last": max(times),
            "versions": versions,
            "torn_segments": recording.torn,
        },
        "candidate": {
            "model": candidate.model_name,
            "version": candidate.model_version,
            "bundle_digest": candidate.digest,
            "robot": contract.robot,
        },
        "refused": {"count": len(refused), "reasons": sorted(set(refused))[:_REASONS]},
        "unsafe": {"count": len(unsafe), "reasons": sorted(set(unsafe))[:_REASONS]},
        **figures(looks, names=contract.action, control_hz=contract.control_hz),
    }


def _check_contract(recording: Recording, contract: Contract) -> None:
    served = recording.metadata()["contract"]
    own = contract.described
    for name in ("robot", "state", "action", "control_hz"):
        if served.get(name) != own.get(name):
            raise UserError(
                f"{recording.path} was recorded with {name} {_brief(served.get(name))}, the candidate has "
                f"{_brief(own.get(name))}: replay it through a policy for the same robot"
            )


def _questions(recording: Recording, contract: Contract, refused: list[str]) -> Iterator[_Question]:
    """What was asked, an observation at a time; what the candidate would refuse goes to `refused`."""
    numbers: dict[tuple[str, str], int] = {}
    before: dict[tuple[str, str], np.ndarray] = {}
    for exchange in recording:
        episode = exchange.session, exchange.episode  # two robots may give theirs one name
        sent = np.asarray(exchange.reply["actions"], np.float32)
        is_batch = sent.ndim == 3
        seeds = exchange.reply["seed"] if is_batch else [exchange.reply["seed"]]
        number = numbers.get(episode, 0)
        numbers[episode] = number + 1
        try:
            requests, _ = read_requests(exchange.message, contract)
            running = None if is_batch else read_running(exchange.message, contract, before.get(episode))
        except Refused as error:
            refused.append(str(error))
            continue
        finally:
            if not is_batch:
                before[episode] = sent
        for request, seed, chunk in zip(requests, seeds, sent if is_batch else [sent], strict=True):
            yield _Question(
                exchange=exchange, number=number, request=request, running=running, seed=int(seed), sent=chunk
            )


def _look(question: _Question, candidate: Served, *, again: bool) -> Look:
    contract, reply = candidate.contract, question.exchange.reply
    started = time.perf_counter()
    own = _ask(question, candidate, question.seed)
    seconds = time.perf_counter() - started
    state = question.request.state
    guarded = guard(own, contract, state=state)
    start = np.full(len(contract.action), np.nan, np.float32)
    known = contract.state_of_action >= 0
    start[known] = state[contract.state_of_action[known]]
    return Look(
        episode=question.exchange.episode,
        number=question.number,
        start=start,
        sent=question.sent,
        own=guarded.actions,
        again=_other(question, candidate) if again else None,
        sent_broken=_count(reply, "clipped_values") + _count(reply, "slowed_values"),
        own_broken=guarded.clipped + guarded.slowed,
        sent_ms=float(_timing(reply)),
        own_ms=seconds * 1000,
    )


def _other(question: _Question, candidate: Served) -> np.ndarray:
    other = _ask(question, candidate, (question.seed + 1) % 2**32)
    return guard(other, candidate.contract, state=question.request.state).actions


def _ask(question: _Question, candidate: Served, seed: int) -> np.ndarray:
    running = () if question.running is None else (question.running,)
    chunk: np.ndarray = infer(candidate, [question.request], [seed], running)[0]
    return chunk


def _count(reply: Mapping[str, Any], name: str) -> int:
    return int(reply.get(name, 0))


def _timing(reply: Mapping[str, Any]) -> float:
    return float((reply.get("server_timing") or {}).get("infer_ms", 0.0))


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
