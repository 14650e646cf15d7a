"""What is compiled is what was agreed on: the golden files, and the words in which a difference is told."""

import copy

import pytest
import yaml

from tests.pipelines.golden_ir import CASES, compiled, difference, golden


@pytest.mark.parametrize(("pipeline", "profile"), CASES)
def test_the_compiled_pipeline_is_the_golden_one(pipeline: str, profile: str) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    expected = yaml.load(golden(pipeline, profile).read_text(), Loader=loader)
    lines = difference(expected, compiled(pipeline, profile))
    assert not lines, "\n".join(
        [
            f"{golden(pipeline, profile).name} differs in {len(lines)} places; if that is wanted, write it anew with",
            "  PYTHONPATH=. python tests/pipelines/golden_ir.py",
            *lines[:60],
        ]
    )


def test_a_difference_is_told_by_path_with_both_values() -> None:
    before = {
        "tasks": {"pack": {"dependentTasks": ["validate"], "env": [{"name": "A", "value": "1"}], "code": "x\ny\nz"}}
    }
    after = copy.deepcopy(before)
    assert difference(before, after) == []
    after["tasks"]["pack"]["dependentTasks"] = ["validate", "annotate"]
    # One more in front moves nothing: elements are matched by name.
    after["tasks"]["pack"]["env"] = [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]  # type: ignore[list-item]
    after["tasks"]["pack"]["code"] = "x\nchanged\nz"
    assert difference(before, after) == [
        "  tasks.pack.code:2: 'y' -> 'changed'",
        "+ tasks.pack.dependentTasks[1]: 'annotate'",
        "  tasks.pack.env[A].value: '1' -> '3'",
        "+ tasks.pack.env[B].name: 'B'",
        "+ tasks.pack.env[B].value: '2'",
    ]
    assert "- tasks.pack.env[B].value: '2'" in difference(after, before)
