"""Checks of the networks' settings, which may come from a file and then be of any type."""

from __future__ import annotations

from iagan.errors import SettingError

MOST_FEATURES = 2**25
"""Numbers in the features of one image at one resolution; the published networks have 2^24."""


def check_count(who: str, name: str, value: object, limit: int) -> None:
    """Refuse what is not an integer from 1 to `limit`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        raise SettingError(
            f"{who} expects {name} as an integer from 1 to {limit}; got {value!r:.80}."
        )


def check_choice(who: str, name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is not one of `choices`, of the same type."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        listed = ", ".join(map(repr, choices))
        raise SettingError(f"{who} expects {name} as one of {listed}; got {value!r:.80}.")


def check_features(who: str, channels: int, side: int) -> None:
    """Refuse features that take more memory than weights of a few kilobytes should."""
    if channels * side**2 > MOST_FEATURES:
        raise SettingError(
            f"{who} expects at most {MOST_FEATURES} features of an image; got {channels} channels "
            f"of {side}×{side}."
        )
