"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

__all__ = ["describe_machine", "describe_versions"]

_LIBRARIES = ("rxtasks", "reactivex", "orjson", "attrs", "loguru", "cloudpickle", "psutil", "ulid-transform", "apsw")
_PEERS = ("loky", "Pebble", "mpire", "joblib", "dask", "distributed", "ray", "huey", "dramatiq")


def describe_machine() -> dict[str, str]:
    """Return the machine's processor, usable cores, memory, kernel and present load."""
    return {
        "cpu": _first_value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(_usable_cores()),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of the interpreter and of the libraries and peers that take part."""
    versions = {"python": f"{platform.python_implementation()} {platform.python_version()} ({sys.platform})"}
    for name in _LIBRARIES + _PEERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "from the source tree" if name == "rxtasks" else "not installed"
    return versions


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    kib = (_first_value("/proc/meminfo", "MemTotal") or "").split()
    return f"{int(kib[0]) / 2**20:.1f} GiB" if kib else "unknown"


def _first_value(path: str, key: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return None
