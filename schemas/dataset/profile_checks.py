"""Checks of the `[[profiles]]` tables: entities, aggregates, fields, windows, and the names of the features. Pure."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from schemas.dataset.fields import DERIVED, Declaration, column_kinds
from schemas.dataset.profiles import (
    AGGREGATES,
    BY_KIND,
    CATEGORY_AGGREGATES,
    DEFAULT_LAG,
    LABEL_AGGREGATES,
    LAST_LABEL_AGGREGATES,
    NEW_AGGREGATES,
    NUMBER_AGGREGATES,
    WINDOWED,
    ProfileForm,
    ProfileKind,
    feature_name,
    parse_duration,
    parse_feature,
    profile_kind,
    resolve_profile,
)
from schemas.time_units import DAY_MS, MINUTE_MS

MAX_PROFILE_FEATURES = 200  # of a data set
MAX_DURATION_MS = 365 * DAY_MS  # of a window, a lag, a label delay
MIN_WINDOW_MS = 5 * MINUTE_MS  # the finest grain of a window's tail
MAX_FEATURE_NAME_LENGTH = 200

_LABELS = (*LABEL_AGGREGATES, *LAST_LABEL_AGGREGATES)
_FIELD_KINDS = dict.fromkeys(NUMBER_AGGREGATES, "number") | dict.fromkeys(
    (*CATEGORY_AGGREGATES, *NEW_AGGREGATES), "category"
)  # by aggregate; the others have no field


def profile_faults(declaration: Declaration) -> Iterator[str]:
    """Mistakes of the profiles, one line each: number and entity of the table, the value and the remedy.

    Only the first one is sure: later checks expect that there is none before them.
    """
    for number, form in enumerate(declaration.profiles, start=1):
        for why in _table_faults(form, declaration):
            yield _fault(number, form, why)
    yield from _name_faults(declaration)


def _fault(number: int, form: ProfileForm, why: str) -> str:
    return f"profile {number} ({form.entity!r}): {why}"


def _table_faults(form: ProfileForm, declaration: Declaration) -> Iterator[str]:
    kind = profile_kind(form, declaration.key)
    yield from _entity_faults(form.entity, declaration)
    if kind == "labels" and not declaration.label:
        yield 'label_delay needs a label, and the data set declares none: set label = "FIELD", or remove label_delay'
    if not form.features:
        yield f'the list of features is empty; name one or more, such as "{BY_KIND[kind][0]}"'
    for text in form.features:
        for why in _feature_faults(text, form, kind, declaration):
            yield f"feature {text!r}: {why}"
        if list(map(parse_feature, form.features)).count(parse_feature(text)) > 1:
            yield f"feature {text!r}: listed twice; remove one"
    yield from _duration_faults(form, kind)
    yield from _base_rate_faults(form, kind)


def _entity_faults(entity: str, declaration: Declaration) -> Iterator[str]:
    kinds = column_kinds(declaration)
    categories = [name for name, kind in kinds.items() if kind == "category"]
    entities = list(dict.fromkeys([*([declaration.key] if declaration.key else []), *categories]))
    if entity in entities:
        return
    keyless = "" if declaration.key else '; the data set has no key (key = "")'
    if entity in kinds:
        yield f'the entity is a {kinds[entity]}; declare the field with kind = "category", or name {_one_of(entities)}'
    elif entity == declaration.label:
        yield f"the label cannot be an entity; name {_one_of(entities)}, and label_delay for the fraud rate of it"
    else:
        what = "An entity is the key or a category"
        yield f"no such entity{_meant(entity, entities)}{what}: {_one_of(entities)}{keyless}"


def _feature_faults(text: str, form: ProfileForm, kind: ProfileKind, declaration: Declaration) -> Iterator[str]:
    allowed = BY_KIND[kind]
    parsed = parse_feature(text)
    if parsed is None:
        yield f'not of the form "count" or "mean(FIELD)"; the windows are in `windows`. {_known(kind)}'
        return
    aggregate, field = parsed
    if aggregate not in AGGREGATES:
        yield f"no aggregate {aggregate!r}{_meant(aggregate, allowed)}{_known(kind)}"
    elif aggregate not in allowed:
        yield _other_kind(aggregate, form.entity, kind, declaration)
    needed = _FIELD_KINDS.get(aggregate)
    if needed is None:
        if field is not None:
            yield f'{aggregate} has no field; write "{aggregate}"'
        return
    kinds = column_kinds(declaration)
    own = [name for name in kinds if name not in DERIVED]
    fields = [name for name in (*own, *DERIVED) if kinds[name] == needed and name != form.entity]
    if field is None:
        example = f'write "{aggregate}({fields[0]})"' if fields else f"the data set declares no {needed}"
        yield f"{aggregate} needs a field of kind {needed}; {example}"
    elif field == declaration.label:
        yield (
            "the label is not known when a transaction is scored; for the fraud rate of an entity, declare a profile "
            'with label_delay and "fraud_rate"'
        )
    elif field == form.entity:
        yield f"the entity has one value of itself; name another {needed}: {_one_of(fields)}"
    elif field not in kinds:
        yield f"no field or entry {field!r}{_meant(field, fields)}Fields of kind {needed}: {_one_of(fields)}"
    elif kinds[field] != needed:
        yield f"{field!r} is a {kinds[field]}, and {aggregate} needs a {needed}: {_one_of(fields)}"


def _other_kind(aggregate: str, entity: str, kind: ProfileKind, declaration: Declaration) -> str:
    """Why profiles of this kind do not have an aggregate, and where it is to be had."""
    if aggregate in _LABELS:
        return f'{aggregate} is computed from labels: set label_delay, such as "7d". {_known(kind)}'
    if kind == "labels":
        entry = "the key" if entity == declaration.key else "this entity"
        return (
            f"{aggregate} is not computed from labels: declare it in a profile of {entry} without label_delay. "
            f"{_known(kind)}"
        )
    key = f"the key {declaration.key!r}" if declaration.key else "a key, which this data set does not have"
    return (
        f"{aggregate} is for profiles of {key}; other entities are seen through counts and sums that all partitions "
        f"add up. {_known(kind)}"
    )


def _duration_faults(form: ProfileForm, kind: ProfileKind) -> Iterator[str]:
    for name, text in (("lag", form.lag), ("label_delay", form.label_delay)):
        if text is not None:
            yield from _malformed(name, text)
    if form.lag is not None and kind != "tiles":
        why = "a profile of the key is exact" if kind == "key" else "label_delay defines which labels count"
        yield f"lag {form.lag!r}: {why}; remove lag"
    if not form.windows:
        yield 'windows is missing; list one or more, such as windows = ["1d", "7d"]'
    seen: dict[int, str] = {}
    for text in form.windows:
        yield from _malformed("window", text)
        window_ms = parse_duration(text)
        assert window_ms is not None
        if window_ms < MIN_WINDOW_MS:
            yield f"window {text!r}: the shortest is '5m'"
        if window_ms in seen:
            other = "listed twice" if seen[window_ms] == text else f"the same as {seen[window_ms]!r}"
            yield f"window {text!r}: {other}; remove one"
        seen[window_ms] = text
    if not any(_aggregate(text) in WINDOWED for text in form.features) and len(form.windows) > 1:
        longest = seen[max(seen)]
        yield (
            f"windows {', '.join(form.windows)}: none of the features is computed by window; keep the longest, "
            f'windows = ["{longest}"], which sets how far back they look'
        )
    if kind == "tiles":
        lag = DEFAULT_LAG if form.lag is None else form.lag
        lag_ms = parse_duration(lag)
        assert lag_ms is not None
        if lag_ms >= min(seen):
            yield f"window {seen[min(seen)]!r}: not longer than the lag of {lag!r}, so it would be empty; lengthen it"


def _malformed(name: str, text: str) -> Iterator[str]:
    duration_ms = parse_duration(text)
    if duration_ms is None:
        yield f"{name} {text!r}: no duration; write a whole number of m, h or d, such as '30m', '1h' or '7d'"
    elif duration_ms > MAX_DURATION_MS:
        yield f"{name} {text!r}: the longest is '{MAX_DURATION_MS // DAY_MS}d'"


def _base_rate_faults(form: ProfileForm, kind: ProfileKind) -> Iterator[str]:
    if form.base_rate is None:
        return
    if kind != "labels":
        yield f"base_rate {form.base_rate}: for profiles of labels only; set label_delay, or remove base_rate"
    elif "fraud_rate" not in map(_aggregate, form.features):
        yield f'base_rate {form.base_rate}: used by "fraud_rate" only; add that to the features, or remove base_rate'
    if not 0 <= form.base_rate <= 1:
        yield f"base_rate {form.base_rate}: a share of frauds between 0 and 1, such as 0.01 for 1 %"


def _name_faults(declaration: Declaration) -> Iterator[str]:
    """Names of features that are taken, and too many features. The tables have no other fault."""
    time = declaration.event_time
    roles = (declaration.key, declaration.label, declaration.transaction_id, *time.parts, time.hour)
    taken = {name: f"the field {name!r}" for name in (*roles, *column_kinds(declaration)) if name}
    taken |= {f.name: f"the field {f.name!r}" for f in declaration.fields}
    total = 0
    for number, form in enumerate(declaration.profiles, start=1):
        for part in (form.entity, *(field for _, field in map(_parsed, form.features) if field)):
            if not feature_name(part, "", None, None):
                yield _fault(number, form, f"{part!r} has no letter or digit to name a feature by; rename the field")
        for feature in resolve_profile(form, declaration.key).features:
            declared = f"{feature.aggregate}({feature.field})" if feature.field else feature.aggregate
            window = f" of window {feature.window!r}" if feature.window else ""
            if (other := taken.get(feature.name)) is not None:
                yield _fault(
                    number,
                    form,
                    f"feature {declared!r}{window} is named {feature.name!r}, and so is {other}; remove or rename one",
                )
            if len(feature.name) > MAX_FEATURE_NAME_LENGTH:
                shown = f"{feature.name[:40]}…"
                why = f"the name {shown!r} has {len(feature.name)} characters, at most {MAX_FEATURE_NAME_LENGTH} fit"
                yield _fault(number, form, f"feature {declared[:60]!r}: {why}; rename the field")
            taken[feature.name] = f"{declared!r}{window} of profile {number}"
            total += 1
        if total > MAX_PROFILE_FEATURES:
            why = f"{total} features with this profile; a data set may have {MAX_PROFILE_FEATURES}: remove windows or "
            yield _fault(number, form, f"{why}features")


def _aggregate(text: str) -> str:
    return _parsed(text)[0]


def _parsed(text: str) -> tuple[str, str | None]:
    parsed = parse_feature(text)
    assert parsed is not None, text
    return parsed


def _known(kind: ProfileKind) -> str:
    what = {"key": "of the key", "tiles": "of other entities", "labels": "of labels"}[kind]
    return f"Aggregates {what}: {', '.join(BY_KIND[kind])}"


def _meant(wrong: str, names: Iterable[str]) -> str:
    folded = {name.casefold(): name for name in names}
    close = get_close_matches(wrong.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]!r}? " if close else ". "


def _one_of(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"{', '.join(map(repr, listed[:10]))}{more}" if listed else "none is declared"
