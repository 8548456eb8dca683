"""The steps of the Dockerfile, executed in a folder where there is no Docker: docs/results/image.json.

    python -m benchmarks.image [--keep FOLDER]

All stages share a folder in place of the root; absolute paths in it stand for those of the image. So this shows that
each step works from the files that .dockerignore lets in, that the server starts as the image's user, and what it adds
to its base image. It doesn't show the base images themselves. MB are those of the files.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import results
from benchmarks.bursts import machine
from benchmarks.command import make_parser
from emimic.files import write_atomically
from emimic.server.documents import MEDIA_TYPES

OUT: Final = results.RESULTS / "image.json"
_PORT: Final = 8765
_PLACES: Final = re.compile(r"(?<![\w./:])/(?=(opt|source|npm|tmp)\b)")


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction of a Dockerfile.

    Attributes:
        name: RUN, COPY and so on.
        text: What follows, on one line.
    """

    name: str
    text: str

    def split(self) -> list[str]:
        """Return its words: of a JSON list, or as in a shell; of a HEALTHCHECK those of its command."""
        text = self.text.partition("CMD ")[2] if self.name == "HEALTHCHECK" else self.text
        words: list[str] = json.loads(text) if text.startswith("[") else shlex.split(text)
        return words


def read_steps(file: Path) -> list[Step]:
    """Return the instructions of a Dockerfile."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [Step(name, text.strip()) for name, _, text in pairs]


def list_context(root: Path) -> set[str]:
    """Return the files of the repository that the build sees: those in git that .dockerignore lets in."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    rules = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    return {name for name in tracked if name and (name in allowed or name.split("/")[0] in allowed)}


class Build:
    """Executes steps in a folder.

    Attributes:
        root: The folder.
        times: Seconds of each RUN, by its text.
    """

    def __init__(self, root: Path, context: Path) -> None:
        self.root, self._context, self._seen = root, context, list_context(context)
        self._folder, self.times = root, dict[str, float]()
        self.environment = dict(os.environ)
        self._last: dict[str, Step] = {}

    def execute(self, step: Step) -> None:
        """Execute a step; those that only describe the image are kept for `get`."""
        self._last[step.name] = step
        if step.name == "WORKDIR":
            self._folder = self._map(step.text)
            self._folder.mkdir(parents=True, exist_ok=True)
        elif step.name == "COPY":
            self._copy(step.split())
        elif step.name == "RUN":
            start = time.perf_counter()
            subprocess.run(
                self._map_all(step.text), shell=True, check=True, cwd=self._folder, env=self.environment
            )
            self.times[step.text] = round(time.perf_counter() - start, 1)
        elif step.name == "ENV":
            for pair in self._map_all(step.text).split():
                name, _, value = pair.partition("=")
                self.environment[name] = value.replace("$PATH", self.environment["PATH"])

    def get(self, name: str) -> list[str]:
        """Return the words of the last step of this name, with their paths in the folder."""
        return [self._map_all(word) for word in self._last[name].split()]

    def _map(self, path: str) -> Path:
        return self.root / path.lstrip("/") if path.startswith("/") else self._folder / path

    def _map_all(self, text: str) -> str:
        return _PLACES.sub(f"{self.root}/", text)

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        if sources[0].startswith("--from="):
            first, second = self._map(sources[1]), self._map(target)
            if first != second:
                shutil.copytree(first, second)
            return
        for source in sources:
            names = [name for name in self._seen if name == source or name.startswith(f"{source}/")]
            if not names:
                raise FileNotFoundError(f"COPY {source}: .dockerignore lets no file of that name in")
            for name in names:
                file = self._map(target) / (name if target == "./" else Path(name).relative_to(source))
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._context / name, file)


def measure_server(build: Build) -> dict[str, Any]:
    """Start the image's command as its user, and return what it returns."""
    words = [*build.get("ENTRYPOINT"), *build.get("CMD")]
    build.environment["EMIMIC_PORT"] = str(_PORT)
    environment = {name: build.environment[name] for name in ("PATH", "EMIMIC_PORT")}
    user, group = map(int, build.get("USER")[0].split(":"))
    temporary = build.root / "tmp"
    temporary.chmod(0o1777)
    start, url = time.perf_counter(), f"http://127.0.0.1:{_PORT}"
    drop = {"user": user, "group": group, "extra_groups": []} if os.getuid() == 0 else {}
    process = subprocess.Popen(words, cwd=temporary, env=environment, **drop)
    try:
        check = build.get("HEALTHCHECK")
        while subprocess.run(check, env=build.environment, stderr=subprocess.DEVNULL, check=False).returncode:
            if process.poll() is not None or time.perf_counter() - start > 120:
                raise RuntimeError("the server did not become ready")
        ready = time.perf_counter() - start
        clip = build.root / "source/src/emimic/sample/speech/woman-happy.mp3"
        request = urllib.request.Request(
            f"{url}/v1/emotions", clip.read_bytes(), {"Content-Type": "audio/mpeg"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            joy = json.load(response)["intensities"]["Joy"]
        for kind in MEDIA_TYPES:  # an error unless the image has what it needs
            request.full_url = f"{url}/v1/emotions?response_format={kind}"
            urllib.request.urlopen(request, timeout=60).close()
        with urllib.request.urlopen(f"{url}/", timeout=60) as response:
            page = response.status
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
    finally:
        process.kill()
    return {
        "seconds_to_healthy": round(ready, 1),
        "joy": joy,
        "page": page,
        "exit_status": ended,
        "formats": list(MEDIA_TYPES),
    }


def measure_size(folder: Path) -> float:
    """Return the size of a folder's files in MB."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)


def main() -> None:
    """Execute the steps, and write what was measured."""
    parser = make_parser(__doc__)
    parser.add_argument("--keep", type=Path, help="new folder for the steps; default: a temporary one")
    parser.add_argument("--python", default=sys.executable, help="the image's; one that any user can execute")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = given.keep or Path(name)
        (root / "bin").mkdir(parents=True)
        root.chmod(0o755)
        (root / "bin/python").symlink_to(Path(given.python).resolve())
        build = Build(root.resolve(), results.ROOT)
        build.environment["PATH"] = f"{root / 'bin'}:{os.environ['PATH']}"
        for step in read_steps(results.ROOT / "Dockerfile"):
            build.execute(step)
        prefix = build.root / "opt/emimic"
        report = {
            "seconds": {text.replace(str(build.root), ""): value for text, value in build.times.items()},
            "megabytes": {"all": measure_size(prefix), "page": measure_size(prefix / "page")},
            "server": measure_server(build),
            "machine": machine(),
        }
    write_atomically(OUT, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
