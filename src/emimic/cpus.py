"""The CPUs available to this process, by its affinity and by the quotas of its cgroups (containers, batch systems)."""

import os
from pathlib import Path, PurePosixPath
from typing import Final

from emimic.task import SettingsError

_CGROUPS: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")


def count_available() -> int:
    """Return the number of logical CPUs, at least 1; with a quota of 2.5 CPUs, 2."""
    return _limit_to_quota(len(_list_allowed()) or os.cpu_count() or 1)


def count_cores() -> int:
    """Return the number of physical cores, at least 1: a second thread on a core makes inference no faster."""
    allowed = _list_allowed()
    siblings = set()
    for cpu in allowed:
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(file.read_text(encoding="ascii").strip())
        except OSError:
            return count_available()
    return _limit_to_quota(len(siblings)) if siblings else count_available()


def read_quota(cgroups: Path = _CGROUPS, mount: Path = _MOUNT) -> float | None:
    """Return the lowest CPU quota of the process's cgroups, in CPUs; None without a limit.

    Args:
        cgroups: the kernel's list of the process's cgroups, version 1 or 2.
        mount: the folder of the groups.
    """
    try:
        lines = cgroups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # another system
        return None
    limits = []
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            roots, read = [mount], _read_limit
        elif "cpu" in controllers.split(","):
            roots, read = [mount / controllers, mount / "cpu"], _read_limit_version_1
        else:
            continue
        # A container sees its own group as the mount's root, whatever its path on the host.
        path = PurePosixPath("" if ".." in group else group.lstrip("/"))
        limits += [read(root / part) for root in roots for part in (path, *path.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def read_launcher_variable(name: str, default: int) -> int:
    """Return a whole number from a launcher's environment variable, such as torchrun's RANK and WORLD_SIZE.

    Raises:
        SettingsError: the variable is no whole number.
    """
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise SettingsError(
            f"the variable {name} is {text!r}, expected a whole number. Unset it, or use torchrun"
        )
    return int(text)


def _limit_to_quota(count: int) -> int:
    """Return a number of CPUs, limited to the quota, at least 1."""
    limit = read_quota()
    return count if limit is None else max(1, min(count, int(limit)))


def _list_allowed() -> set[int]:
    """Return the logical CPUs of this process's affinity; empty where the system has none."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _read_limit(group: Path) -> float | None:
    """Return the quota of a cgroup of version 2, in CPUs; None without a limit."""
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else _divide(int(quota), int(period))
    except (OSError, ValueError):
        return None


def _read_limit_version_1(group: Path) -> float | None:
    """Return the quota of a cgroup of version 1, in CPUs; None without a limit."""
    try:
        quota, period = (
            int((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return _divide(quota, period)
    except (OSError, ValueError):
        return None


def _divide(quota: int, period: int) -> float | None:
    """Return a quota in CPUs; None without a limit."""
    return quota / period if quota > 0 and period > 0 else None
