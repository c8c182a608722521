"""Validation of network settings, which may come from a file and be of any type."""

from __future__ import annotations

from iagan.errors import SettingError

MOST_FEATURES = 2**25
"""Maximum number of features of one image at one resolution; published networks have 2^24."""


def check_count(who: str, name: str, value: object, limit: int) -> None:
    """**Raises:** `SettingError` unless `value` is an integer from 1 to `limit`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        raise SettingError(
            f"{who} expects {name} as an integer from 1 to {limit}; got {value!r:.80}."
        )


def check_choice(who: str, name: str, value: object, choices: tuple[object, ...]) -> None:
    """**Raises:** `SettingError` unless `value` is one of `choices`, with the same type."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        listed = ", ".join(map(repr, choices))
        raise SettingError(f"{who} expects {name} as one of {listed}; got {value!r:.80}.")


def check_features(who: str, channels: int, side: int) -> None:
    """**Raises:** `SettingError` for features so large that a weights file of a few kilobytes could
    exhaust the memory.
    """
    if channels * side**2 > MOST_FEATURES:
        raise SettingError(
            f"{who} expects at most {MOST_FEATURES} features per image; got {channels} channels of "
            f"{side}×{side}."
        )
