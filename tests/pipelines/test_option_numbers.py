"""Numbers of the command line: none is infinite, and none is no number."""

import argparse
from collections.abc import Iterator

import pytest

from components.arguments import number
from components.endpoint.options import ServeOptions
from model.errors import UserError
from pipelines.cli import build_parser, main


def options(parser: argparse.ArgumentParser, name: str = "lingbot") -> Iterator[tuple[str, argparse.Action]]:
    """Every option and argument of every command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child, child_parser in action.choices.items():
                yield from options(child_parser, f"{name} {child}")
        else:
            yield f"{name} {action.option_strings[-1] if action.option_strings else action.dest}", action


def test_every_option_that_takes_a_fraction_takes_a_finite_one() -> None:
    found = {name: action.type for name, action in options(build_parser()) if action.type in (float, number)}
    assert len(found) > 40 and "lingbot serve --poll-seconds" in found
    assert [name for name, kind in found.items() if kind is float] == []


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e400"])
def test_what_is_not_finite_is_no_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not finite: give a number, such as 5 or 0.5"):
        number(text)


def test_it_is_said_with_the_options_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert number("-2.5e3") == -2500.0
    for text, said in (("inf", "'inf' is not finite"), ("soon", "invalid number value: 'soon'")):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--poll-seconds", text])
        assert ended.value.code == 2
        assert f"lingbot serve: error: argument --poll-seconds: {said}" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize("name", ["deadline_seconds", "poll_seconds", "episode_seconds", "drain_seconds"])
def test_times_of_the_endpoint_end(name: str, value: float) -> None:
    with pytest.raises(UserError, match="must be"):
        ServeOptions(**{name: value})  # type: ignore[arg-type]
