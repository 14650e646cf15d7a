"""YAML that a person wrote: what is read, and the sentence for what cannot be meant."""

from pathlib import Path

import pytest

from model.errors import UserError
from model.yaml_files import parse_yaml, read_yaml


def test_what_stands_there_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1, b: [x, 2.5]}\nmore:\n  <<: *base\n  b: ü\nlist: [{a: 1}, {a: 2}]\n", "utf-8")
    assert read_yaml(path) == {
        "base": {"a": 1, "b": ["x", 2.5]},
        "more": {"a": 1, "b": "ü"},
        "list": [{"a": 1}, {"a": 2}],
    }
    assert parse_yaml("", "nothing") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: [\n", r"a.yaml is not valid YAML: .* expected node content in line 3, column 1$"),
        (b"a: \xff\n", r"a.yaml is not valid YAML: byte 3 is no UTF-8; save it as UTF-8"),
        (b"steps: 1\nb: 2\nsteps: 3\n", r"not valid YAML: 'steps' is given in line 1 and again in line 3; leave one"),
        (b"a:\n- b: {c: 1, 'c': 2}\n", r"'c' is given in line 2 and again in line 2"),
        (b"a: !!python/object/apply:os.getcwd []\n", r"could not determine a constructor"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named_as_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the mixture x.yaml \(No such file or directory\): give the path"):
        read_yaml(tmp_path / "x.yaml", "the mixture x.yaml")
