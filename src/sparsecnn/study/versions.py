"""Versions of what computes the numbers, and whether artifacts of a study were made with others."""

from collections.abc import Iterable, Mapping

WARN, RERUN = "warn", "rerun"


def minor(versions: Mapping[str, str]) -> dict[str, str]:
    """Versions without what follows the second number, in which numbers may differ; no machine."""
    return {
        name: ".".join(version.split(".")[:2])
        for name, version in versions.items()
        if name != "machine"
    }


def others(found: Iterable[Mapping[str, str]], now: Mapping[str, str]) -> list[str]:
    """What differs in more than a patch from now, as ``torch 2.11 (now 2.12)``."""
    here = minor(now)
    different = {
        (name, version)
        for versions in found
        for name, version in minor(versions).items()
        if here.get(name, version) != version
    }
    return [f"{name} {version} (now {here[name]})" for name, version in sorted(different)]
