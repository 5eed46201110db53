"""Profile features in people's words, from their definitions. Pure."""

from schemas.dataset.profiles import parse_duration
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.bundle.feature_definitions import ProfileDefinition

_UNITS = (("day", DAY_MS), ("hour", HOUR_MS), ("minute", MINUTE_MS), ("second", 1_000))


def describe(feature: ProfileDefinition) -> str:
    """What a profile feature is.

    >>> describe(ProfileDefinition(feature="card_mean_amount_7d", entity="card", kind="key", aggregate="mean",
    ...                            field="amount", window="7d"))
    'mean amount of this card in the last 7 days'
    """
    entity, field, period = f"this {feature.entity}", feature.field, _period(feature)
    match feature.aggregate:
        case "count":
            return f"transactions of {entity} {period}"
        case "sum" | "mean":
            return f"{feature.aggregate} {field} of {entity} {period}"
        case "max":
            return f"largest {field} of {entity} {period}"
        case "std":
            return f"standard deviation of {field} of {entity} {period}"
        case "ratio":
            return f"{field} divided by the mean of {entity} {period}"
        case "ratio_max":
            return f"{field} divided by the largest of {entity} {period}"
        case "zscore":
            return f"{field} in standard deviations from the mean of {entity} {period}"
        case "distinct":
            return f"different values of {field} of {entity} {period}"
        case "seconds_since_last":
            return f"seconds since the previous transaction of {entity} {period}"
        case "is_new":
            return f"whether {field} is new for {entity} {period}"
        case "labelled_count":
            return f"labelled transactions of {entity} {period}"
        case "fraud_count":
            return f"frauds of {entity} {period}"
        case "fraud_rate":
            return f"fraud rate of {entity} {period}"
        case "frauds_in_row":
            return f"newest labelled transactions of {entity} in a row that were fraud {period}"
        case "last_label":
            return f"whether the newest labelled transaction of {entity} was fraud {period}"
        case "seconds_since_fraud":
            return f"seconds since the last known fraud of {entity} {period}"
        case _:
            return feature.feature


def describe_value(feature: ProfileDefinition, value: float | None) -> str:
    """A value of a profile feature. None: missing.

    >>> card = ProfileDefinition(feature="card_count_1h", entity="card", kind="key", aggregate="count", window="1h")
    >>> describe_value(card, 8.0)
    '8 transactions of this card in the last hour'
    """
    if value is None:
        return f"{describe(feature)}: missing"
    entity, field, period = f"this {feature.entity}", feature.field, _period(feature)
    match feature.aggregate:
        case "count":
            return f"{_count(value, 'transaction')} of {entity} {period}"
        case "labelled_count":
            return f"{_count(value, 'labelled transaction')} of {entity} {period}"
        case "fraud_count":
            return f"{_count(value, 'fraud')} of {entity} {period}"
        case "distinct":
            return f"{_count(value, 'different value')} of {field} of {entity} {period}"
        case "ratio":
            return f"{field} {value:.3g} times the mean of {entity} {period}"
        case "ratio_max":
            return f"{field} {value:.3g} times the largest of {entity} {period}"
        case "zscore":
            side = "above" if value >= 0 else "below"
            return f"{field} {abs(value):.2g} standard deviations {side} the mean of {entity} {period}"
        case "seconds_since_last":
            return f"{_seconds(value)} since the previous transaction of {entity}"
        case "seconds_since_fraud":
            return f"{_seconds(value)} since the last known fraud of {entity}"
        case "is_new":
            return f"{field} is {'new' if value else 'not new'} for {entity} {period}"
        case "fraud_rate":
            return f"fraud rate of {entity} {value:.1%} {period}"
        case "frauds_in_row":
            if value > 1:
                return f"newest {value:g} labelled transactions of {entity} were fraud {period}"
            return f"newest labelled transaction of {entity} was {'fraud' if value else 'not fraud'} {period}"
        case "last_label":
            return f"newest labelled transaction of {entity} was {'fraud' if value else 'not fraud'} {period}"
        case _:
            return f"{describe(feature)}: {value:g}"


def _period(feature: ProfileDefinition) -> str:
    window = _window(feature.window)
    if feature.label_delay is not None:
        return f"in the {window} before the last {_window(feature.label_delay)}"
    return f"in the last {window}"


def _window(text: str) -> str:
    """A duration behind "the last": "hour", "7 days"."""
    duration_ms = parse_duration(text)
    if duration_ms is None:  # of a damaged manifest
        return text
    unit, size = next((unit, size) for unit, size in _UNITS if duration_ms % size == 0)
    return unit if duration_ms == size else f"{duration_ms // size} {unit}s"


def _seconds(value: float) -> str:
    """Seconds in the largest unit that fits: "90 seconds", "3 hours"."""
    unit, size = next(((u, s) for u, s in _UNITS if value * 1_000 >= 2 * s), _UNITS[-1])
    return _count(round(value * 1_000 / size), unit)


def _count(value: float, noun: str) -> str:
    return f"{value:g} {noun}{'' if value == 1 else 's'}"
