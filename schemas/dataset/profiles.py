"""Declaration of profiles: what is remembered of a card, a merchant or a device, and the features that follow from it.

A `[[profiles]]` table of a data set's TOML file names an entity, windows and features:

    [[profiles]]
    entity = "card"
    windows = ["1h", "7d"]
    features = ["count", "mean(amount)", "seconds_since_last"]

`count` and `mean(amount)` are computed for each window, `seconds_since_last` once: the features are `card_count_1h`,
`card_count_7d`, `card_mean_amount_1h`, `card_mean_amount_7d` and `card_seconds_since_last`.
"""

import re
from hashlib import sha256
from typing import Literal

import msgspec

from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS

ProfileKind = Literal["key", "tiles", "labels"]
DEFAULT_LAG = "10m"
DEFAULT_BASE_RATE = 0.01

# Aggregates by what they need. Those without a window cover the longest window of their profile.
COUNTS = ("count",)  # of transactions, by window
NUMBER_AGGREGATES = ("sum", "mean", "max", "std", "ratio", "ratio_max", "zscore")  # of a number field, by window
CATEGORY_AGGREGATES = ("distinct",)  # of a category field, by window
LAST_AGGREGATES = ("seconds_since_last",)  # once
NEW_AGGREGATES = ("is_new",)  # of a category field, once
LABEL_AGGREGATES = ("labelled_count", "fraud_count", "fraud_rate")  # by window
LAST_LABEL_AGGREGATES = ("frauds_in_row", "last_label", "seconds_since_fraud")  # once
WINDOWED = (*COUNTS, *NUMBER_AGGREGATES, *CATEGORY_AGGREGATES, *LABEL_AGGREGATES)
BY_KIND: dict[ProfileKind, tuple[str, ...]] = {
    "key": (*COUNTS, *NUMBER_AGGREGATES, *CATEGORY_AGGREGATES, *LAST_AGGREGATES, *NEW_AGGREGATES),
    "tiles": (*COUNTS, *NUMBER_AGGREGATES),
    "labels": (*LABEL_AGGREGATES, *LAST_LABEL_AGGREGATES),
}

AGGREGATES = tuple(dict.fromkeys(name for names in BY_KIND.values() for name in names))

_DURATION = re.compile(r"([1-9][0-9]{0,5})(m|h|d)")
_UNIT_MS = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_FEATURE = re.compile(r"(\w+)(?:\((.+)\))?")


class ProfileForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[profiles]]` table."""

    entity: str  # the key, or a category field
    features: tuple[str, ...]  # "count", "mean(amount)"
    windows: tuple[str, ...] = ()  # "30m", "1h", "7d"
    lag: str | None = None  # entities other than the key: a tile is used when it closed at least this long ago
    label_delay: str | None = None  # makes it a profile of labels: only transactions at least this old count
    base_rate: float | None = None  # labels: share of fraud that `fraud_rate` is smoothed towards


class ProfileFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a profile: a number, missing where the profile has no value."""

    name: str
    aggregate: str
    field: str | None = None  # number or category that is aggregated
    window: str | None = None  # as declared, such as "7d"; None: the profile's horizon
    window_ms: int | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A valid profile."""

    entity: str
    kind: ProfileKind  # "key": exact; "tiles": seen through closed tiles; "labels": from late labels
    windows_ms: tuple[int, ...]  # ascending
    lag_ms: int = 0  # tiles
    label_delay_ms: int = 0  # labels
    base_rate: float = DEFAULT_BASE_RATE  # labels
    features: tuple[ProfileFeature, ...]

    @property
    def horizon_ms(self) -> int:
        """The longest window."""
        return self.windows_ms[-1]


def parse_duration(text: str) -> int | None:
    """Milliseconds of a duration such as "30m", "1h" or "7d"; None if the text is none.

    >>> parse_duration("5m")
    300000
    """
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNIT_MS[match[2]] if match else None


def format_duration(duration_ms: int) -> str:
    """The shortest text of a duration of whole minutes.

    >>> format_duration(7 * DAY_MS), format_duration(90 * MINUTE_MS)
    ('7d', '90m')
    """
    unit = next(unit for unit in ("d", "h", "m") if duration_ms % _UNIT_MS[unit] == 0)
    return f"{duration_ms // _UNIT_MS[unit]}{unit}"


def parse_feature(text: str) -> tuple[str, str | None] | None:
    """Aggregate and field of a declared feature; None if the text is none.

    >>> parse_feature("mean(amount)")
    ('mean', 'amount')
    """
    match = _FEATURE.fullmatch(text.strip())
    return (match[1], match[2].strip() if match[2] else None) if match else None


def profile_kind(form: ProfileForm, key: str) -> ProfileKind:
    """How a profile is computed. key: the data set's key."""
    if form.label_delay is not None:
        return "labels"
    return "key" if form.entity == key else "tiles"


def resolve_profile(form: ProfileForm, key: str) -> Profile:
    """The profile of a table without faults (`schemas.dataset.profile_checks`)."""
    windows = sorted(form.windows, key=_milliseconds)
    features = []
    for text in form.features:
        parsed = parse_feature(text)
        assert parsed is not None, text
        aggregate, field = parsed
        for window in windows if aggregate in WINDOWED else (None,):
            window_ms = None if window is None else _milliseconds(window)
            name = feature_name(form.entity, aggregate, field, window)
            feature = ProfileFeature(name=name, aggregate=aggregate, field=field, window=window, window_ms=window_ms)
            features.append(feature)
    kind = profile_kind(form, key)
    lag_ms = _milliseconds(DEFAULT_LAG if form.lag is None else form.lag)
    return Profile(
        entity=form.entity,
        kind=kind,
        windows_ms=tuple(map(_milliseconds, windows)),
        lag_ms=lag_ms if kind == "tiles" else 0,
        label_delay_ms=0 if form.label_delay is None else _milliseconds(form.label_delay),
        base_rate=DEFAULT_BASE_RATE if form.base_rate is None else form.base_rate,
        features=tuple(features),
    )


def feature_name(entity: str, aggregate: str, field: str | None, window: str | None) -> str:
    """Name of a profile feature.

    >>> feature_name("ID_USER", "mean", "monto", "7d")
    'id_user_mean_monto_7d'
    """
    return "_".join(_snake(part) for part in (entity, aggregate, field, window) if part)


def profiles_digest(profiles: tuple[Profile, ...]) -> str:
    """Digest of everything that a profile's values depend on, 16 hexadecimal digits; "" without profiles."""
    return sha256(msgspec.json.encode(profiles)).hexdigest()[:16] if profiles else ""


def _milliseconds(text: str) -> int:
    parsed = parse_duration(text)
    assert parsed is not None, text
    return parsed


def _snake(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()
