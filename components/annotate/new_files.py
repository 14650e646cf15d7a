"""Files that a command makes: never over another one, which may hold what a person has done."""

from pathlib import Path

from model.errors import UserError


def check_new_file(path: Path, argument: str, suffix: str) -> None:
    """UserError unless `path`, given as `argument`, ends with `suffix`, lies in a folder and is no file yet."""
    if path.suffix != suffix:
        raise UserError(f"{argument} is '{path}': its name must end with {suffix}.")
    if not path.parent.is_dir():
        raise UserError(f"{argument} is '{path}', but there is no folder {path.parent}: make it, or name another.")
    if path.exists():
        raise UserError(f"{argument} is '{path}', which exists: give a new name, nothing is written over.")
