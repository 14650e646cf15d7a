"""What an image's Python packages become at last: `python containers/finish.py VENV [FOLDER...]`, while it is built.

From the environment goes what no process of an image reads; then all of it, and the folders, get their bytecode. An
image's files all carry the time of its commit and its root file system may be read-only, so bytecode goes by the hash
of its source: by time it would be stale, and made anew at each start (3 CPU seconds for what the endpoint imports).
"""

import argparse
import compileall
import py_compile
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

# Under site-packages. Directories called `tests` anywhere are what libraries try themselves with.
UNREAD = (
    "**/tests",
    # Programs and libraries that PyTorch tries itself with. torch_shm_manager stays: loaders may share memory with it.
    "torch/test",
    "torch/bin/test_*",
    "torch/bin/*Test",
    "torch/bin/protoc*",
    # A whole ffmpeg, which gym-aloha's requirements bring; videos are read and written with PyAV.
    "imageio_ffmpeg/binaries/ffmpeg*",
    "pyarrow/include",
)
# What torch.compile needs where there is a compiler.
HEADERS = ("torch/include", "torch/share/cmake")


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3.*/site-packages")
    return found


def trim(packages: Path, patterns: Iterable[str]) -> int:
    """Removes what the patterns name; returns its bytes. A pattern that is below a removed folder is done with it."""
    freed = 0
    for path in sorted({path for pattern in patterns for path in packages.glob(pattern)}):
        if not path.exists() or (path.name == "tests" and not path.is_dir()):
            continue
        if path.is_dir():
            freed += sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
            shutil.rmtree(path)
        else:
            freed += path.lstat().st_size
            path.unlink()
    return freed


def compile_all(folders: Iterable[Path]) -> None:
    """Bytecode for every module, by as many processes as there are cores.

    What does not compile is left to whoever imports it: packages carry files of later Pythons.
    """
    for folder in folders:
        compileall.compile_dir(
            folder, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep-headers", action="store_true", help="for torch.compile, where there is a compiler")
    parser.add_argument("environment", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    given = parser.parse_args()
    packages = site_packages(given.environment)
    freed = trim(packages, UNREAD if given.keep_headers else (*UNREAD, *HEADERS))
    compile_all([packages, *given.folders])
    print(f"finish: {freed / 1e6:.0f} MB that nothing reads are gone from {packages}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
