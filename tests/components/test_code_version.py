import hashlib
from pathlib import Path

import pytest

from components.code_version import Sources, code_version
from components.steps import STEPS

FILES = {
    "model/__init__.py": "",
    "model/errors.py": "",
    "model/data/__init__.py": "from . import names\n",
    "model/data/names.py": "",
    "model/data/reader.py": "from .names import x\n",
    "model/data/unused.py": "",
    "model/robots/__init__.py": "",
    "model/robots/arm.yaml": "joints: 6\n",
    "model/robots/meshes/arm.xml": "<arm/>",
    "model/robots/meshes.yaml": "scale: 1\n",
    "model/robots/hands/__init__.py": "",
    "model/robots/hands/hand.yaml": "fingers: 5\n",
    "model/robots/notes.md": "for people",
    "model/deep.py": "import model.errors\n",
    "components/__init__.py": "",
    "components/endpoint/__init__.py": "",
    "components/endpoint/app.py": "import model.deep\n",
    "components/collect/__init__.py": "",
    "components/collect/metadata.yaml": "lastVerified: never\n",
    "components/collect/component.py": "from kfp import dsl\n",
    "components/collect/step.py": "from model.data import reader\ndef run():\n    from model.robots import x\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_closure_is_what_the_step_imports(tree):
    assert Sources(tree).closure("components.collect.step") == [
        "components/__init__.py",
        "components/collect/__init__.py",
        "components/collect/step.py",
        "model/__init__.py",
        "model/data/__init__.py",
        "model/data/names.py",
        "model/data/reader.py",
        "model/robots/__init__.py",
        "model/robots/arm.yaml",
        "model/robots/meshes/arm.xml",
        "model/robots/meshes.yaml",
    ]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("components/collect/step.py", True),
        ("model/data/names.py", True),
        ("model/robots/arm.yaml", True),
        ("model/robots/meshes/arm.xml", True),
        ("model/robots/hands/hand.yaml", False),
        ("model/data/unused.py", False),
        ("model/robots/notes.md", False),
        ("model/deep.py", False),
        ("components/endpoint/app.py", False),
        ("components/collect/component.py", False),
        ("components/collect/metadata.yaml", False),
    ],
)
def test_only_what_the_step_reaches_changes_its_version(tree, changed, expected):
    before = code_version("components.collect.step", tree)
    (tree / changed).write_text(FILES[changed] + "\n# another line\n")
    assert (code_version("components.collect.step", tree) != before) is expected


def test_a_moved_checkout_has_the_same_version(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name, text in FILES.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text(text)
    assert code_version("components.collect.step", tree) == code_version("components.collect.step", elsewhere)


def test_the_endpoint_and_the_harness_are_in_no_step():
    sources = Sources()
    for step in STEPS.values():
        names = sources.closure(step.module)
        assert not [name for name in names if name.startswith("components/endpoint/")], step.name
        assert "components/execution.py" not in names
        assert f"{step.module.replace('.', '/')}.py" in names


def test_a_file_that_many_steps_reach_is_read_once():
    from components import code_version as module

    module._read_imports.cache_clear()
    sources = Sources()
    versions = {step.name: sources.version(step.module) for step in STEPS.values()}
    files = {name for step in STEPS.values() for name in sources.closure(step.module)}
    assert module._read_imports.cache_info().misses == sum(name.endswith(".py") for name in files)
    assert len(set(versions.values())) == len(versions)


def test_what_was_looked_up_for_one_version_is_not_taken_for_the_next(tree):
    """Each call sees the files as they are then, also those that came and went; one `Sources` is one moment."""
    before = Sources(tree)
    first = before.version("components.collect.step")
    new = tree / "model/data/reader"
    (tree / "components/collect/step.py").write_text("from model.data.reader import x\nfrom model.unheard import y\n")
    (tree / "model/unheard.py").write_text("")
    second = code_version("components.collect.step", tree)
    assert second != first and before.version("components.collect.step") == first
    assert "model/unheard.py" in Sources(tree).closure("components.collect.step")
    (tree / "model/data/reader.py").unlink()
    new.mkdir()
    (new / "__init__.py").write_text("")
    closure = Sources(tree).closure("components.collect.step")
    assert "model/data/reader/__init__.py" in closure and "model/data/reader.py" not in closure


def test_the_version_is_that_of_paths_and_bytes_in_a_fixed_order(tree):
    """So that a change of how closures are found, which keeps them, makes nothing run again."""
    lines = b"".join(
        f"{name} {hashlib.sha256((tree / name).read_bytes()).hexdigest()}\n".encode()
        for name in sorted(Sources(tree).closure("components.collect.step"), key=lambda name: Path(name).parts)
    )
    assert code_version("components.collect.step", tree) == hashlib.sha256(lines).hexdigest()
