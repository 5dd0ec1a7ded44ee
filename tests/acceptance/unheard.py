"""A module of a user's who silences loguru as it is imported."""

from __future__ import annotations

from loguru import logger

logger.remove()


def speak(word: str) -> None:
    """Say it through loguru."""
    logger.info(word)
