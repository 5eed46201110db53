"""The known-good payload is accepted under any declaration of the event time."""

from typing import Any

import pytest

from scoring.input.cleaning import clean_payloads
from scoring.input.record_times import RecordTimes
from stream_app.decisions.probe import Probe, good_payload
from tests.helpers.reference_times import times_dataset


@pytest.mark.parametrize(
    ("formats", "options"),
    [
        (("epoch_ms",), {}),
        (("excel",), {"hour": "h", "zone": "Pacific/Kiritimati"}),
        (("%d/%m/%Y",), {"hour": "h", "zone": "Europe/Madrid"}),
        (("%Y-%d-%m",), {"hour": "h", "zone": "Etc/GMT+12"}),
        (("%Y-%d-%m %H:%M",), {"hour": "h", "zone": "America/Mexico_City"}),
        (("%Y-%d-%m", "epoch_s"), {}),
        (("offset_h",), {"origin": "2020-01-01"}),
    ],
)
def test_the_known_good_payload_is_accepted(formats: tuple[str, ...], options: dict[str, Any]) -> None:
    dataset = times_dataset(*formats, **options)
    probe = Probe(good_payload(dataset))
    cleaned = clean_payloads(dataset, [probe.value], record_times=RecordTimes([probe.timestamp], 0))
    assert (cleaned.rows.tolist(), cleaned.rejections) == ([0], [])
