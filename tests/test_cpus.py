"""The CPUs available to a process."""

import os
from pathlib import Path

import pytest

from emimic import cpus
from emimic.task import SettingsError


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"
QUOTAS: dict[str, tuple[str, dict[str, str], float | None]] = {
    "a container": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
    "half a CPU": ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
    "no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "an ancestor's": ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 50000"}, 3.0),
    "the fewest": ("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "150000 50000"}, 1.0),
    "another namespace": ("0::/../../x\n", {"cpu.max": "400000 100000"}, 4.0),
    "version 1": (
        V1,
        {
            "cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000",
            "cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
        },
        2.5,
    ),
    "version 1 in a container": (
        V1,
        {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"},
        3.0,
    ),
    "version 1 without": (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "rubbish": ("0::/\nrubbish\n\n", {"cpu.max": "many\n"}, None),
    "no period": ("0::/\n", {"cpu.max": "100000 0\n"}, None),
    "no file": ("0::/\n", {}, None),
    "less than nothing": ("0::/\n", {"cpu.max": "-1 100000\n"}, None),
    "nothing": ("0::/\n", {"cpu.max": "0 100000\n"}, None),
    "a period below 0": ("0::/\n", {"cpu.max": "100000 -1\n"}, None),
    "one word": ("0::/\n", {"cpu.max": "max\n"}, None),
    "three words": ("0::/\n", {"cpu.max": "100000 100000 1\n"}, None),
    "signs in a name": ("0::/a:b c\u00e4\n", {"a:b c\u00e4/cpu.max": "100000 50000"}, 2.0),
    "a long name": (f"0::/{'a' * 5000}\n", {"cpu.max": "300000 100000"}, 3.0),
    "both versions": (
        "3:cpu:/x\n0::/y\n",
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "0", "cpu.max": "300000 100000"},
        3.0,
    ),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_the_quota_is_the_fewest_of_all_groups(name: str, tmp_path: Path) -> None:
    groups, files, expected = QUOTAS[name]
    (tmp_path / "cgroup").write_text(groups)
    assert cpus.read_quota(tmp_path / "cgroup", write(tmp_path / "mount", files)) == expected
    assert cpus.read_quota(tmp_path / "nowhere", tmp_path) is None


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (2.5, 2), (0.5, 1), (100.0, 8), (3.0, 3)])
def test_threads_heed_affinity_and_quota(
    quota: float | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000, 1008)), raising=False)
    monkeypatch.setattr(cpus, "read_quota", lambda: quota)
    assert cpus.count_available() == count
    assert cpus.count_cores() == count  # such CPUs have no siblings to know of


def test_without_affinity_all_cpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cpus, "read_quota", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.count_available() == cpus.count_cores() == 1


def test_what_a_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("3", 3), ("", 1), (None, 1)):
        if text is None:
            monkeypatch.delenv("WORLD_SIZE")
        else:
            monkeypatch.setenv("WORLD_SIZE", text)
        assert cpus.read_launcher_variable("WORLD_SIZE", 1) == expected
    for text in ("one", "1_0", "-1", "2.0", "\u0663"):
        monkeypatch.setenv("RANK", text)
        with pytest.raises(SettingsError, match="the variable RANK is"):
            cpus.read_launcher_variable("RANK", 0)
