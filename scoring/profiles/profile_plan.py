"""What the reducer needs to know of a declaration: fields, windows and the columns that it fills."""

from typing import Self

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.profiles import Profile, ProfileFeature
from scoring.arrays import Indices


class ProfilePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration's profiles, resolved to columns."""

    key: str | None  # entity of the "key" profiles
    profiles: tuple[Profile, ...]
    number_fields: tuple[str, ...]  # columns of `ProfileInputs.values`
    category_fields: tuple[str, ...]  # columns of `ProfileInputs.levels`
    entities: tuple[str, ...]  # the key among them, if there is one
    missing: dict[str, tuple[str, ...]]  # by entity: texts that mean a missing value
    features: tuple[ProfileFeature, ...]  # columns of the matrix of profile features
    digest: str
    has_ids: bool  # whether payloads declare transaction ids

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The plan of a data set."""
        fields = [f for f in dataset.profile_features if f.field is not None]
        categories = dict.fromkeys(f.field for f in fields if f.aggregate in ("distinct", "is_new") and f.field)
        numbers = dict.fromkeys(f.field for f in fields if f.field and f.field not in categories)
        entities = dict.fromkeys([*([dataset.key] if dataset.key else []), *(p.entity for p in dataset.profiles)])
        return cls(
            key=dataset.key,
            profiles=dataset.profiles,
            number_fields=tuple(numbers),
            category_fields=tuple(categories),
            entities=tuple(entities),
            missing={name: _missing(dataset, name) for name in entities},
            features=dataset.profile_features,
            digest=dataset.profiles_digest,
            has_ids=dataset.transaction_id is not None,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the profile features, in column order."""
        return tuple(f.name for f in self.features)

    def columns_of(self, *kinds: str) -> Indices:
        """Columns of the features of these kinds of profiles, in the matrix of all profile features."""
        places: list[int] = []
        start = 0
        for profile in self.profiles:
            if profile.kind in kinds:
                places += range(start, start + len(profile.features))
            start += len(profile.features)
        return np.array(places, dtype=np.intp)


def _missing(dataset: Dataset, entity: str) -> tuple[str, ...]:
    """Texts that mean a missing value in a field or in an entry of a mapping."""
    own = [f.missing for f in dataset.fields if entity in (f.name, *(entry.name for entry in f.entries))]
    return tuple(dict.fromkeys([*dataset.missing, *(text for texts in own for text in texts)]))
