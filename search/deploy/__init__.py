"""Write the commands and manifests that launch a plan, and read what is deployed back into the same description.

Which part may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its part holds:

- `launch`: nothing
- `compare`: `launch`
- `engine_settings`: `launch`
- `launch_commands`: `engine_settings`, `launch`
- `cluster_manifests`: `engine_settings`, `launch`, `launch_commands`
- `reading_back`: `engine_settings`, `launch`, `launch_commands`
- `targets`: `cluster_manifests`, `engine_settings`, `launch`, `launch_commands`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.deploy.compare import compared, words_of
    from search.deploy.launch import SWITCHES, Check, Launch, Pool
    from search.deploy.launch_commands.of_plan import launch_columns, launch_of, launch_of_row, read_plan, with_launches
    from search.deploy.reading_back.deployed import Reading, read_back
    from search.deploy.targets import CLUSTERS, TARGETS, Export, engines_of, export, target_called

__all__ = [
    "CLUSTERS",
    "SWITCHES",
    "TARGETS",
    "Check",
    "Export",
    "Launch",
    "Pool",
    "Reading",
    "compared",
    "engines_of",
    "export",
    "launch_columns",
    "launch_of",
    "launch_of_row",
    "read_back",
    "read_plan",
    "target_called",
    "with_launches",
    "words_of",
]

__getattr__ = lazy_names(
    __name__,
    {
        "compare": ["compared", "words_of"],
        "targets": ["CLUSTERS", "TARGETS", "Export", "engines_of", "export", "target_called"],
        "launch": ["SWITCHES", "Check", "Launch", "Pool"],
        "launch_commands.of_plan": ["launch_columns", "launch_of", "launch_of_row", "read_plan", "with_launches"],
        "reading_back.deployed": ["Reading", "read_back"],
    },
)
