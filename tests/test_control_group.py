"""Tests that the limits of a process's control groups are read from trees of files like those of Linux."""

import pytest

from fastnn.control_group import cpu_quota, memory_limit

V2 = "30 23 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 23 0:27 {root} {mount} rw,relatime - cgroup cgroup rw,{controllers}\n"
OTHER = "22 1 8:1 / / rw,relatime - ext4 /dev/root rw\nnonsense\n33 23 0:9 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"


@pytest.fixture
def tree(tmp_path):
    """A function that writes files, given by their paths, and returns their root."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def _second(group, limits, root="/", mount="/sys/fs/cgroup"):
    files = {f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in limits.items()}
    mounts = OTHER + V2.format(root=root, mount=mount)
    return {"proc/self/cgroup": f"0::{group}\n", "proc/self/mountinfo": mounts, **files}


def _first(line, limits, root="/"):
    mounts = OTHER + "".join(
        V1.format(root=root, mount=f"/sys/fs/cgroup/{each}", controllers=each)
        for each in ("cpu,cpuacct", "memory", "name=systemd")
    )
    files = {f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in limits.items()}
    return {"proc/self/cgroup": line, "proc/self/mountinfo": mounts, **files}


@pytest.mark.parametrize(("group", "limits", "expected"), [
    ("/", {}, None),
    ("/", {"cpu.max": "50000 100000"}, 0.5),  # a container that sees its own group as the root
    ("/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "max 100000"}, None),
    ("/a/b", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000"}, 1.5),
    ("/a/b", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "20000 10000", "cpu.max": "900000 100000"}, 2.0),
    ("/a/b", {"a/b/c/cpu.max": "1000 100000", "x/cpu.max": "1000 100000"}, None),  # groups of other processes
    ("/a", {"a/cpu.max": "250000"}, 2.5),
    ("/a", {"a/cpu.max": "rubbish 3"}, None),
    ("/a", {"a/cpu.max": ""}, None),
    ("/a", {"a/cpu.max": "50000 0"}, 0.5),
    ("/../../other", {"cpu.max": "70000 100000"}, 0.7),
])  # fmt: skip
def test_the_smallest_cpu_quota_of_version_2_counts(tree, group, limits, expected):
    assert cpu_quota(tree(_second(group, limits))) == expected


@pytest.mark.parametrize(("limits", "expected"), [
    ({}, None),
    ({"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, None),
    ({"cpu,cpuacct/a/b/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000"}, 0.5),
    ({"cpu,cpuacct/a/cpu.cfs_quota_us": "30000", "cpu,cpuacct/a/cpu.cfs_period_us": "20000",
      "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1"}, 1.5),
    ({"memory/a/b/cpu.cfs_quota_us": "50000"}, None),
])  # fmt: skip
def test_the_smallest_cpu_quota_of_version_1_counts(tree, limits, expected):
    line = "9:name=systemd:/other\n4:memory:/m\n2:cpu,cpuacct:/a/b\n"
    assert cpu_quota(tree(_first(line, limits))) == expected


def test_a_container_of_version_1_sees_its_own_group_as_the_mount(tree):
    line = "2:cpu,cpuacct:/docker/abc/inner\n4:memory:/docker/abc\n"
    limits = {
        "cpu,cpuacct/cpu.cfs_quota_us": "120000", "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/inner/cpu.cfs_quota_us": "60000", "cpu,cpuacct/inner/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "1000000",
    }  # fmt: skip
    root = tree(_first(line, limits, root="/docker/abc"))
    assert cpu_quota(root) == 0.6
    assert memory_limit(root) == 1_000_000


@pytest.mark.parametrize(("limits", "expected"), [
    ({}, None),
    ({"a/memory.max": "max"}, None),
    ({"a/memory.max": "4096", "memory.max": "8192"}, 4096),
    ({"a/memory.max": "max", "memory.max": "8192"}, 8192),
])  # fmt: skip
def test_the_smallest_memory_limit_of_version_2_counts(tree, limits, expected):
    assert memory_limit(tree(_second("/a", limits))) == expected


def test_version_1_has_no_word_for_no_limit_of_memory(tree):
    limits = {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/a/memory.limit_in_bytes": "5000"}
    assert memory_limit(tree(_first("4:memory:/a\n", limits))) == 5000
    assert memory_limit(tree(_first("4:memory:/\n", limits))) is None


def test_the_smaller_limit_of_both_versions_counts(tree):
    files = _first("2:cpu,cpuacct:/a\n0::/b\n", {
        "cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "unified/b/cpu.max": "50000 100000",
    })  # fmt: skip
    files["proc/self/mountinfo"] += V2.format(root="/", mount="/sys/fs/cgroup/unified")
    assert cpu_quota(tree(files)) == 0.5


def test_a_mount_may_have_a_space_in_its_path(tree):
    files = _second("/a", {}, mount="/my\\040groups") | {"my groups/a/cpu.max": "10000 100000"}
    assert cpu_quota(tree(files)) == 0.1


def test_a_system_without_control_groups_has_no_limits(tree):
    for files in ({}, {"proc/self/cgroup": "nonsense\n:::\n", "proc/self/mountinfo": "nonsense\n"}):
        root = tree(files)
        assert cpu_quota(root) is None
        assert memory_limit(root) is None
