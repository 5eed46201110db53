"""Feature bins: fixed in training on the reference, and used to count every later value.

Two levels of detail. Panes count *codes*: about 250 for a number, which is fine enough for KS; for a category its
levels, OTHER and MISSING. *Bins* are groups of codes, each with enough reference rows: PSI, KL, JS and the detector use
bins. MISSING is the last code and always a separate bin.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from monitoring.counting.reference_profile import MASS_POINT_SHARE, QUANTILES, profile_numbers
from scoring.arrays import Array, Columns, Flags, Floats, Indices, Ints
from scoring.bundle.manifest import FeatureEncoding, FeatureProfile

DECILES = tuple(i / 10 for i in range(1, 10))
MIN_BIN_ROWS = 50  # reference rows per bin; with fewer, the chi-squared approximation is poor
NOT_COUNTED = -1  # code of a row that is not counted in a feature, such as the score of a dead letter


@dataclass(frozen=True, eq=False)
class FeatureBins:
    """Codes and bins of one feature."""

    name: str
    kind: str  # "number" or "category"
    edges: Floats  # number: code i holds edges[i-1] <= x < edges[i], the outermost open; category: none
    reference: Ints  # shape (n_codes,), the reference's events by code; MISSING last
    bin_of_code: Indices  # shape (n_codes,); MISSING has the last bin to itself
    labels: tuple[str, ...]  # of the bins, for people

    @property
    def n_bins(self) -> int:
        """Number of bins, including MISSING."""
        return len(self.labels)

    @cached_property
    def decile_of_code(self) -> Indices:
        """Decile of each code in the reference, for the classic PSI; MISSING last. For a category: its bins."""
        if self.kind == "category":
            return self.bin_of_code
        starts = _nearest_starts(self.reference[:-1], DECILES)
        codes = np.arange(len(self.reference) - 1)
        return np.append(np.searchsorted(starts, codes, side="right") - 1, len(starts))

    @property
    def reference_bins(self) -> Ints:
        """Reference rows by bin, shape (n_bins,)."""
        return np.bincount(self.bin_of_code, weights=self.reference, minlength=self.n_bins).astype(np.int64)

    def encode(self, values: Array) -> Indices:
        """Code of each value, shape (n,).

        values: for a number float64, NaN if missing; for a category the codes from `featurize`, of any dtype.
        """
        if self.kind == "category":
            return values.astype(np.intp)
        codes = np.searchsorted(self.edges, values, side="right")
        codes[np.isnan(values)] = len(self.edges) + 1
        return codes


def number_bins(name: str, values: Floats) -> FeatureBins:
    """Codes and bins of a number from its reference values. values: shape (n,), NaN if missing."""
    return bins_of_profile(profile_numbers(name, values), None)


def share_bins(name: str, no: int, yes: int) -> FeatureBins:
    """Codes 0 and 1 of a yes-or-no feature, such as an alert or a dead letter. no, yes: reference rows of each."""
    counts = np.array([no, yes, 0], dtype=np.int64)
    return FeatureBins(name, "category", np.empty(0), counts, np.arange(3), ("no", "yes", "missing"))


def bins_of_profile(profile: FeatureProfile, encoding: FeatureEncoding | None) -> FeatureBins:
    """Codes and bins of one feature of a manifest. encoding: of the feature; None for the score.

    Numbers: bins end at the edges nearest to the quantiles `QUANTILES`; each mass point has its own bin.
    Categories: levels with fewer than `MIN_BIN_ROWS` reference rows belong to OTHER.
    """
    if encoding is not None and encoding.kind == "category":
        return _category_bins(profile, encoding.levels)
    counts = np.array(profile.counts, dtype=np.int64)
    edges = np.array(profile.edges, dtype=np.float64)
    starts = _bin_starts(edges, counts)
    runs = np.diff([*starts, len(counts)])
    labels = tuple(_interval(edges, a, b) for a, b in pairwise([*starts.tolist(), len(counts)]))
    return FeatureBins(
        profile.name,
        "number",
        edges,
        np.append(counts, profile.missing),
        np.append(np.repeat(np.arange(len(starts)), runs), len(starts)),
        (*labels, "missing"),
    )


class FrozenBins:
    """Codes of all features, concatenated: the histograms of all features are one vector of `n_codes` counts.

    Counts are integers, so adding and subtracting histograms is exact, and any split of the work gives equal counts.
    """

    def __init__(self, features: Sequence[FeatureBins]) -> None:
        self.features = tuple(features)
        self.names = tuple(f.name for f in features)
        self.offsets: Indices = np.cumsum([0, *(len(f.reference) for f in features)])
        self.n_codes = int(self.offsets[-1])
        self.n_bins = max(f.n_bins for f in features)

    @cached_property
    def digest(self) -> str:
        """Digest of the codes; counts with another digest are not comparable."""
        digest = hashlib.sha256()
        for f in self.features:
            digest.update(f"{f.name}\0{f.kind}\0{len(f.reference)}\0".encode() + f.edges.tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def bin_mask(self) -> Flags:
        """Mask of the elements of a padded (n_features, n_bins) array that are bins."""
        widths = np.array([f.n_bins for f in self.features])
        return np.arange(self.n_bins) < widths[:, None]

    @cached_property
    def missing_bins(self) -> Indices:
        """Index of the bin MISSING of each feature, shape (n_features,)."""
        return np.array([f.n_bins - 1 for f in self.features])

    @cached_property
    def reference(self) -> Ints:
        """Reference rows by bin, shape (n_features, n_bins), padded with zeros."""
        return self.counts_by_bin(self.reference_codes)

    def encode(self, columns: Columns) -> Indices:
        """Codes of a batch, shape (n_rows, n_features). columns: one array per feature, as for `FeatureBins.encode`."""
        from scoring.discretization import discretize_rows  # imports Numba

        n = len(columns[self.names[0]])
        values = np.empty((len(self.features), n), dtype=np.float64)
        for row, name in zip(values, self.names, strict=True):
            row[:] = columns[name]
        return discretize_rows(values, *self._edges)

    def count(self, codes: Indices, groups: Indices | None = None, n_groups: int = 1) -> Ints:
        """Histograms of encoded rows, shape (n_groups, n_codes); NOT_COUNTED is ignored.

        codes: shape (n_rows, n_features); groups: index of the histogram of each row, shape (n_rows,).
        """
        places = codes + self.offsets[:-1]
        if groups is not None:
            places += (groups * self.n_codes)[:, None]
        flat = places[codes != NOT_COUNTED] if (codes == NOT_COUNTED).any() else places.ravel()
        return np.bincount(flat, minlength=n_groups * self.n_codes).reshape(n_groups, self.n_codes)

    def counts_by_bin(self, counts: Ints) -> Ints:
        """Sum counts by code, shape (..., n_codes), to counts by bin, shape (..., n_features, n_bins)."""
        return self._by_bin.sum(counts)

    def counts_by_decile(self, counts: Ints) -> Ints:
        """Sum counts by code to counts by reference decile, and MISSING, shape (..., n_features, n_deciles)."""
        return self._by_decile.sum(counts)

    @cached_property
    def reference_codes(self) -> Ints:
        """Reference rows by code, shape (n_codes,)."""
        return np.concatenate([f.reference for f in self.features])

    @cached_property
    def _edges(self) -> tuple[Floats, Indices, Flags]:
        """Edges of all features, the index of each feature's first one, and which features are categories."""
        edges = [f.edges for f in self.features]
        starts = np.cumsum([0, *map(len, edges)])
        return np.concatenate(edges), starts, np.array([f.kind == "category" for f in self.features])

    @cached_property
    def _by_bin(self) -> "_Grouping":
        return _Grouping([f.bin_of_code for f in self.features])

    @cached_property
    def _by_decile(self) -> "_Grouping":
        return _Grouping([f.decile_of_code for f in self.features])


class _Grouping:
    """Sums codes into groups per feature, padded to equal width."""

    def __init__(self, group_of_code: Sequence[Indices]) -> None:
        self.shape = len(group_of_code), 1 + max(int(g.max()) for g in group_of_code)
        places = np.concatenate([i * self.shape[1] + g for i, g in enumerate(group_of_code)])
        self.order = np.argsort(places, kind="stable")
        self.places, self.starts = np.unique(places[self.order], return_index=True)

    def sum(self, counts: Ints) -> Ints:
        found = np.zeros((*counts.shape[:-1], self.shape[0] * self.shape[1]), dtype=np.int64)
        found[..., self.places] = np.add.reduceat(counts[..., self.order], self.starts, axis=-1)
        return found.reshape(*counts.shape[:-1], *self.shape)


def _category_bins(profile: FeatureProfile, levels: tuple[str, ...]) -> FeatureBins:
    counts = np.array(profile.counts, dtype=np.int64)
    other = len(counts) - 2
    kept = np.flatnonzero(counts[:other] >= MIN_BIN_ROWS)
    bin_of_code = np.full(len(counts), len(kept), dtype=np.intp)
    bin_of_code[kept] = np.arange(len(kept))
    bin_of_code[-1] = len(kept) + 1
    labels = tuple(levels[i] for i in kept.tolist())
    return FeatureBins(profile.name, "category", np.empty(0), counts, bin_of_code, (*labels, "other", "missing"))


def _bin_starts(edges: Floats, counts: Ints) -> Indices:
    """First code of each bin, ascending, including 0."""
    n = counts.sum()
    if not len(edges) or not n:
        return np.zeros(1, dtype=np.intp)
    wanted = _nearest_starts(counts, QUANTILES)
    after = np.append(np.nextafter(edges[:-1], np.inf) == edges[1:], False)
    points = np.flatnonzero(after & (counts[1:] >= MASS_POINT_SHARE * n)) + 1
    starts = np.unique(np.concatenate([wanted, points, points + 1]))
    return _merged(starts, np.add.reduceat(counts, starts), np.isin(starts, points))


def _nearest_starts(counts: Ints, quantiles: Sequence[float]) -> Indices:
    """0, and the first code after the edge nearest to each quantile."""
    if len(counts) == 1 or not counts.any():
        return np.zeros(1, dtype=np.intp)
    below = counts.cumsum()[:-1] / counts.sum()  # share under each edge
    return np.unique(np.append(np.abs(below[:, None] - np.array(quantiles)).argmin(axis=0) + 1, 0))


def _merged(starts: Indices, sizes: Ints, alone: Flags) -> Indices:
    """Merge the smallest bin with the smaller of its neighbours, until each has `MIN_BIN_ROWS`; returns the starts.

    alone: mass points, which are never merged: a refund among zero discounts must not be counted as a zero. A bin
    between two mass points is kept with any number of rows, like MISSING and OTHER.
    """
    while True:
        joins = ~alone[:-1] & ~alone[1:]  # between a bin and the next
        size = np.where(np.append(joins, False) | np.insert(joins, 0, False), sizes, MIN_BIN_ROWS)
        i = int(size.argmin())
        if size[i] >= MIN_BIN_ROWS:
            return starts
        left = sizes[i - 1] if i and joins[i - 1] else np.inf
        right = sizes[i + 1] if i < len(joins) and joins[i] else np.inf
        gone = i + 1 if right < left else i
        sizes[gone - 1] += sizes[gone]
        starts, sizes, alone = np.delete(starts, gone), np.delete(sizes, gone), np.delete(alone, gone)


def _interval(edges: Floats, start: int, stop: int) -> str:
    low = edges[start - 1] if start else -np.inf
    high = edges[stop - 1] if stop <= len(edges) else np.inf
    if np.nextafter(low, np.inf) == high:
        return f"{low:g}"
    if start > 1 and np.nextafter(edges[start - 2], np.inf) == low:  # starts directly after a mass point
        return f"({edges[start - 2]:g}, {high:g})"
    return f"{'[' if start else '('}{low:g}, {high:g})"
