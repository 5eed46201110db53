"""UBJSON: what XGBoost writes is read with all its bits; what is malformed is refused."""

import msgspec
import numpy as np
import pytest

from scoring.bundle.ubjson import read_ubjson
from tests.helpers.bundles.small_bundle import small_booster


def test_trees_are_read_as_from_json_and_their_floats_with_all_bits() -> None:
    booster = small_booster()
    found = read_ubjson(bytes(booster.save_raw("ubj")))
    expected = msgspec.json.decode(booster.save_raw("json"))
    assert found["version"] == expected["version"]
    assert found["learner"]["learner_model_param"] == expected["learner"]["learner_model_param"]
    for a, b in zip(*(d["learner"]["gradient_booster"]["model"]["trees"] for d in (found, expected)), strict=True):
        assert a.keys() == b.keys()
        assert a["split_conditions"].dtype == np.float32
        for name in a.keys() - {"id", "tree_param"}:
            assert a[name].tolist() == np.array(b[name], a[name].dtype).tolist(), name


def test_every_kind_of_value_is_read() -> None:
    assert read_ubjson(b"{i\x01aZi\x01bTi\x01cFi\x01d[i\xffU\xffI\x01\x00]i\x01eSi\x02hii\x01fCx}") == {
        "a": None, "b": True, "c": False, "d": [-1, 255, 256], "e": "hi", "f": "x",
    }  # fmt: skip
    assert read_ubjson(b"[$d#i\x02\x3f\x80\x00\x00\x7f\x80\x00\x00").tolist() == [1.0, np.inf]
    assert read_ubjson(b"[#i\x02i\x02i\x03") == [2, 3]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[$d#L" + b"\x7f" * 8, b"[$d#i\xff", b"{i\x05a", b"{L" + b"\xff" * 8, b"?", b"[" * 5_000],
    ids=lambda content: repr(content[:9]),
)  # fmt: skip
def test_malformed_documents_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not UBJSON"):
        read_ubjson(content)
