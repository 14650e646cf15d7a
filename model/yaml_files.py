"""YAML that a person wrote, read strictly: what cannot be meant is one sentence with the file and the line.

YAML itself lets a key stand twice in a mapping and PyYAML takes the last one without a word, which is how half of an
edited file comes to count for nothing. Here the second one is refused.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError

if TYPE_CHECKING:
    import yaml


def read_yaml(path: Path, name: str = "") -> Any:
    """The content of a YAML file.

    Args:
        path: of the file.
        name: what errors call it; its path when left out.

    Raises:
        UserError: it cannot be read, is no UTF-8, no YAML, or gives a key twice.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {name} ({error.strerror}): give the path of a file that exists") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not valid YAML: byte {error.start} is no UTF-8; save it as UTF-8") from error
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> Any:
    """The content of YAML text, which errors call `name`.

    Raises:
        UserError: it is no YAML, or gives a key twice.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {_one_line(error)}") from error


def _one_line(error: "yaml.YAMLError") -> str:
    return " ".join(str(error).replace(' in "<unicode string>",', " in").split())


@cache
def _loader() -> "type[yaml.SafeLoader]":
    """PyYAML's safe loader that refuses a key which stands twice. libyaml's parser is ten times as fast."""
    import yaml

    class Strict(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: "yaml.MappingNode", deep: bool = False) -> Any:
            seen: dict[str, int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            problem=f"'{key.value}' is given in line {seen[key.value]} and again in line {line}; "
                            "leave one of them out"
                        )
                    seen[key.value] = line
            return super().construct_mapping(node, deep=deep)

    return Strict
