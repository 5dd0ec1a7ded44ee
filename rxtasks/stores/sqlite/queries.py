"""The statements of queries.sql and relations.sql, by name."""

from __future__ import annotations

from importlib import resources

__all__ = ["load_queries", "load_schema", "load_turn"]

_PACKAGE = "rxtasks.stores.sqlite"


def load_queries() -> dict[str, str]:
    """Return each statement by the name that stands before it."""
    found: dict[str, str] = {}
    for file in ("queries.sql", "relations.sql"):
        text = resources.files(_PACKAGE).joinpath(file).read_text(encoding="utf-8")
        for part in text.split("-- name: ")[1:]:
            name, _, statement = part.partition("\n")
            found[name.strip()] = statement.strip()
    return found


def load_turn() -> str:
    """Return the statements that a writing connection begins with."""
    text = resources.files(_PACKAGE).joinpath("turn.sql").read_text(encoding="utf-8")
    return text.replace("{commit}", load_queries()["commit"].replace("?1", "new.changes"))


def load_schema() -> list[str]:
    """Return the migrations in their order: the n-th makes version n of version n-1."""
    folder = resources.files(_PACKAGE).joinpath("schema")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in files]
