"""Settings of a pool from files, the environment and flags.

Importing it costs little; typed-settings and PyYAML are imported when something is loaded.
"""

from __future__ import annotations

from rxtasks.configuration.loading import Configuration, ConfigurationError, assignments, load
from rxtasks.configuration.tree import Control, Limits, Logs, Resources, Values, Workers

__all__ = [
    "Configuration",
    "ConfigurationError",
    "Control",
    "Limits",
    "Logs",
    "Resources",
    "Values",
    "Workers",
    "assignments",
    "load",
]
