"""Windows and tiles: the grain at which a window's tail moves.

Tile k of grain g holds the event times in (k g, (k+1) g]: its end belongs to it, its start does not.
"""

from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS

NO_TIME_MS = -(1 << 62)  # earlier than every event


def tile_ms(window_ms: int) -> int:
    """Grain of a window's tail: 5 minutes for windows up to 12 hours, 1 hour up to 12 days, else 1 day.

    >>> [tile_ms(hours * HOUR_MS) // MINUTE_MS for hours in (1, 24, 30 * 24)]
    [5, 60, 1440]
    """
    if window_ms <= 12 * HOUR_MS:
        return 5 * MINUTE_MS
    return HOUR_MS if window_ms <= 12 * DAY_MS else DAY_MS
