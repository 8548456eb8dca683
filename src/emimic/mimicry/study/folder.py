"""The folder of a study: what an earlier run wrote there, and this one does not, is removed."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from emimic.files import compute_sha256, fold_case, make_encodable, make_folder, name_errors, write_atomically

LIST: Final = "files.sha256"
"""Name of the list of files."""


class StudyFolder:
    """Writes files, and lists them as `sha256sum` does: a line of hash and name each.

    A file is removed only if it has the hash that is listed, so what a user has put there or changed stays. Lines are
    written before their files, so that a killed run forgets none.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder, and read the list of an earlier run.

        Raises:
            OutputError: The folder can't be made or written to.
        """
        self.path = make_folder(path)
        self._earlier = _read_list(path / LIST)
        self._written: dict[str, str] = {}

    def write(self, name: str, data: bytes | str) -> None:
        """Write a file; make its folder.

        Args:
            name: Relative to the folder, with `/` between folders.
            data: All of its content.

        Raises:
            OutputError: It can't be written.
        """
        content = make_encodable(data).encode() if isinstance(data, str) else data
        self._written[name] = hashlib.sha256(content).hexdigest()
        with (
            name_errors(self.path / LIST),
            (self.path / LIST).open("a", encoding="utf-8", newline="") as file,
        ):
            file.write(f"{self._written[name]}  {name}\n")
        with name_errors(self.path / name):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / name, content)

    def remove_others(self) -> list[str]:
        """Remove the files of the earlier run that were not written again; return their names."""
        lines = [(digest, name) for name, digest in self._written.items()]
        removed = []
        for digest, name in self._earlier:
            if name not in self._written and self._is_own(name, digest):
                try:
                    (self.path / name).unlink()
                except OSError:  # such as open in another program, on Windows
                    lines.append((digest, name))
                    continue
                removed.append(name)
                for parent in (self.path / name).relative_to(self.path).parents[:-1]:
                    with suppress(OSError):  # holds other files
                        (self.path / parent).rmdir()
        write_atomically(self.path / LIST, "".join(f"{digest}  {name}\n" for digest, name in lines))
        return removed

    def _is_own(self, name: str, digest: str) -> bool:
        """Return True if a listed file still has its content, and is none of those written now under another case."""
        path = self.path / name
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(self.path.resolve()):
            return False
        twins = [other for other in self._written if fold_case(other) == fold_case(name)]
        if any(path.samefile(self.path / other) for other in twins):
            return False
        with suppress(OSError):
            return compute_sha256(path) == digest
        return False


def _read_list(path: Path) -> list[tuple[str, str]]:
    """Return the hash and name of each line; none without a list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [(digest, name) for digest, _, name in (line.partition("  ") for line in lines) if name]
