"""The CPUs that this process may use: by its affinity, and by the quotas of its cgroups (containers, batch systems)."""

import os
from pathlib import Path, PurePosixPath
from typing import Final

from emimic.task import SettingsError

_CGROUPS: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")


def available() -> int:
    """Return the number of logical CPUs, at least 1; of a quota of 2.5 CPUs, 2."""
    return _within_quota(len(_allowed()) or os.cpu_count() or 1)


def cores() -> int:
    """Return the number of physical cores, at least 1: a second thread on the same core only gets in the way."""
    allowed = _allowed()
    siblings = set()
    for cpu in allowed:
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(file.read_text(encoding="ascii").strip())
        except OSError:
            return available()
    return _within_quota(len(siblings)) if siblings else available()


def quota(cgroups: Path = _CGROUPS, mount: Path = _MOUNT) -> float | None:
    """Return the CPUs that the process's cgroups leave it, the fewest of any of them; None without a limit.

    Args:
        cgroups: what the kernel says of the process's cgroups, of version 1 or 2.
        mount: where the groups are.
    """
    try:
        lines = cgroups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # another system
        return None
    limits = []
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            places, read = [mount], _limit
        elif "cpu" in controllers.split(","):
            places, read = [mount / controllers, mount / "cpu"], _limit_of_version_1
        else:
            continue
        # A container sees its own group as the mount's root, whatever its path on the host.
        path = PurePosixPath("" if ".." in group else group.lstrip("/"))
        limits += [read(place / part) for place in places for part in (path, *path.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def launched(name: str, default: int) -> int:
    """Return a whole number that a launcher such as torchrun has put into the environment: RANK, WORLD_SIZE.

    Raises:
        SettingsError: it is none.
    """
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise SettingsError(
            f"the variable {name} is {text!r}, expected a whole number. Unset it, or use torchrun"
        )
    return int(text)


def _within_quota(count: int) -> int:
    limit = quota()
    return count if limit is None else max(1, min(count, int(limit)))


def _allowed() -> set[int]:
    """The logical CPUs of this process's affinity; empty where the system has no such thing."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _limit(group: Path) -> float | None:
    try:
        most, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else _ratio(int(most), int(period))
    except (OSError, ValueError):
        return None


def _limit_of_version_1(group: Path) -> float | None:
    try:
        most, period = (
            int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return _ratio(most, period)
    except (OSError, ValueError):
        return None


def _ratio(most: int, period: int) -> float | None:
    return most / period if most > 0 and period > 0 else None
