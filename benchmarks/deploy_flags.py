"""Compare the flags of the launch templates with the parsers of all known releases, and print a table.

    python -m benchmarks.deploy_flags

An engine whose parser could not be had is listed without figures.
"""

from __future__ import annotations

import sys

from search.deploy.cluster_manifests.custom_resources import TRTLLM_KEYS
from search.deploy.engine_settings.parsers import Release, number, releases
from search.deploy.engine_settings.templates import Template, engines, template


def written(how: Template, version: str) -> list[str]:
    """Return all flags that a launch of this release may have."""
    entries = [e for s, e in how.flags.items() if how.has_flag(s, version)]
    flags = [e[k] for e in entries for k in ("flag", "on", "off") if k in e]
    flags += [how.model_flag if how.model else "", how.file]
    flags += [how.pools.get("flag", ""), how.pools.get("role_flag", ""), *how.pools.get("more", []), *how.fixed]
    for part in (how.nodes, how.lora):
        late = bool(part) and number(version) >= number(part["since"])
        flags += [*part.get("flags", []), *part.get("follower", [])] if late else part.get("before", [])
    return [f for f in dict.fromkeys(flags) if f.startswith("-")]


def unknown(how: Template, known: Release) -> list[str]:
    """Return the flags of a template that the parser of a release does not have."""
    return [f for f in written(how, known.version) if known.find(f) is None]


def _keys(how: Template, known: Release) -> int:
    """Print how many keys of the engine's file are written, and those that its class has not; return their number."""
    fields = known.sections.get("config", frozenset())
    if not fields or not how.keys:
        return 0
    keys = dict.fromkeys([*how.keys.values(), how.pools.get("key", ""), *TRTLLM_KEYS.values()])
    lost = [key for key in keys if key and key not in fields]
    print(f"{'':<9} {'its file':<12} {'':<10} {len(fields):>6} {len(keys):>8} {len(lost):>8}", *lost)
    return len(lost)


def main() -> int:
    """Print engine, release, month, flags that it takes, flags that are written, and those of them it does not have."""
    wrong = 0
    print(f"{'engine':<9} {'release':<12} {'published':<10} {'takes':>6} {'written':>8} {'unknown':>8}")
    for name in engines():
        for known in releases(name):
            lost = unknown(template(name), known)
            wrong += len(lost)
            takes = len({f.name for f in known.flags.values()})
            used = len(written(template(name), known.version))
            row = f"{name:<9} {known.version:<12} {known.published:<10} {takes:>6} {used:>8} {len(lost):>8}"
            print(row, *lost)
            wrong += _keys(template(name), known)
        if not releases(name):
            print(f"{name:<9} its parser could not be had")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
