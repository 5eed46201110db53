"""Invalid payloads with the rejection code and field of their dead letter; and unusual spellings of a valid one."""

import json
from typing import Any, NamedTuple

VALID_FIELDS: dict[str, Any] = {
    "ID_USER": "17",
    "genero": "F",
    "monto": "608,3456335",
    "fecha": "5/01/2020",
    "hora": "20",
    "dispositivo": "{'model': 2020; 'device_score': 3; 'os': 'ANDROID'}",
    "establecimiento": "Super",
    "ciudad": "Merida",
    "tipo_tc": "FÃ\xadsica",
    "linea_tc": "71000",
    "interes_tc": "51",
    "status_txn": "Aceptada",
    "is_prime": "FALSE",
    "dcto": "60,83456335",
    "cashback": "5,475110702",
    "fraude": "FALSE",
}


def payload(**changes: Any) -> bytes:
    """The valid payload with some fields changed; `...` removes a field."""
    row = {name: value for name, value in (VALID_FIELDS | changes).items() if value is not ...}
    return json.dumps(row, ensure_ascii=False).encode()


class InvalidPayload(NamedTuple):
    payload: bytes | None
    code: str
    field: str | None


def _text(old: bytes, new: bytes) -> bytes:
    changed = payload().replace(old, new)
    assert changed != payload()
    return changed


INVALID_PAYLOADS: dict[str, InvalidPayload] = {
    "a null": InvalidPayload(None, "null", None),
    "nothing": InvalidPayload(b"", "empty", None),
    "white space": InvalidPayload(b" \n\t ", "empty", None),
    "plain text": InvalidPayload(b"hola", "not-json", None),
    "truncated": InvalidPayload(payload()[:-20], "not-json", None),
    "followed by more": InvalidPayload(payload() + b"{}", "not-json", None),
    "two in one": InvalidPayload(payload() + b"\n" + payload(), "not-json", None),
    "a byte order mark": InvalidPayload(b"\xef\xbb\xbf" + payload(), "not-json", None),
    "single quotes": InvalidPayload(b"{'ID_USER': '1'}", "not-json", None),
    "a trailing comma": InvalidPayload(_text(b'"FALSE"}', b'"FALSE",}'), "not-json", None),
    "a bare NaN": InvalidPayload(_text(b'"608,3456335"', b"NaN"), "not-json", None),
    "a bare Infinity": InvalidPayload(_text(b'"608,3456335"', b"Infinity"), "not-json", None),
    "a number too large for a float": InvalidPayload(_text(b'"608,3456335"', b"1e999"), "not-json", None),
    "a lone surrogate": InvalidPayload(_text(b'"Super"', b'"\\ud800"'), "not-json", None),
    "a raw line break in a text": InvalidPayload(_text(b"Super", b"Su\nper"), "not-json", None),
    "latin-1": InvalidPayload(payload(ciudad="Mérida").decode().encode("latin-1", "replace"), "not-utf8", None),
    "bytes that are no text": InvalidPayload(bytes(range(128, 256)), "not-utf8", None),
    "an array": InvalidPayload(b"[" + payload() + b"]", "not-an-object", None),
    "a number": InvalidPayload(b"42", "not-an-object", None),
    "a text": InvalidPayload(b'"hola"', "not-an-object", None),
    "a JSON null": InvalidPayload(b"null", "not-an-object", None),
    "true": InvalidPayload(b"true", "not-an-object", None),
    "deep brackets": InvalidPayload(b"[" * 50_000 + b"]" * 50_000, "too-large", None),
    "deep brackets that fit": InvalidPayload(b"[" * 20_000 + b"]" * 20_000, "too-deep", None),
    "a deep object": InvalidPayload(payload(extra={"a": {"b": {"c": {"d": {"e": 1}}}}}), "too-deep", None),
    "as large as the broker lets through": InvalidPayload(payload(ciudad="x" * 990_000), "too-large", None),
    "a key twice": InvalidPayload(_text(b'"monto":', b'"monto": "1", "monto":'), "duplicate-key", None),
    "a key twice, once escaped": InvalidPayload(
        _text(b'"monto":', b'"m\\u006fnto": "1", "monto":'), "duplicate-key", None
    ),
    "a key twice with a number": InvalidPayload(_text(b'"monto":', b'"hora": 3, "monto":'), "duplicate-key", None),
    "a key twice, hidden by escapes": InvalidPayload(
        _text(b'"monto":', b'"monto": "\\\\\\\\", "x": "\\\\", "monto":'), "duplicate-key", None
    ),
    "a key twice inside": InvalidPayload(
        _text(b"\"{'model': 2020; 'device_score': 3; 'os': 'ANDROID'}\"", b'{"os": "WEB", "os": "ANDROID"}'),
        "duplicate-key",
        None,
    ),
    "an empty object": InvalidPayload(b"{}", "missing-field", "ID_USER"),
    "no user": InvalidPayload(payload(ID_USER=...), "missing-field", "ID_USER"),
    "an empty user": InvalidPayload(payload(ID_USER=""), "missing-field", "ID_USER"),
    "a user that is true": InvalidPayload(payload(ID_USER=True), "not-an-id", "ID_USER"),
    "a user that lost digits": InvalidPayload(payload(ID_USER="4,11111E+15"), "not-an-id", "ID_USER"),
    "a user that is a list": InvalidPayload(payload(ID_USER=[1]), "wrong-type", "ID_USER"),
    "an endless user": InvalidPayload(payload(ID_USER="9" * 300), "too-long", "ID_USER"),
    "no amount": InvalidPayload(payload(monto=...), "missing-field", "monto"),
    "an amount that is null": InvalidPayload(payload(monto=None), "missing-field", "monto"),
    "an amount of N/A": InvalidPayload(payload(monto="N/A"), "missing-field", "monto"),
    "an amount in words": InvalidPayload(payload(monto="mucho"), "not-a-number", "monto"),
    "an amount that is true": InvalidPayload(payload(monto=True), "not-a-number", "monto"),
    "an amount that is an object": InvalidPayload(payload(monto={"amount": 3}), "wrong-type", "monto"),
    "an amount that is NaN as text": InvalidPayload(payload(monto="NaN"), "not-a-number", "monto"),
    "an amount of 1e999 as text": InvalidPayload(payload(monto="1e999"), "out-of-range", "monto"),
    "an endless whole amount": InvalidPayload(_text(b'"608,3456335"', b"9" * 400), "out-of-range", "monto"),
    "an amount beyond the feature matrix": InvalidPayload(payload(monto=1e160), "out-of-range", "monto"),
    "thousands separators": InvalidPayload(payload(monto="1.234,56"), "not-a-number", "monto"),
    "an underscore in an amount": InvalidPayload(payload(monto="1_000"), "not-a-number", "monto"),
    "digits of another script": InvalidPayload(payload(monto="١٢٣"), "not-a-number", "monto"),
    "a line break in an amount": InvalidPayload(payload(monto="1\n2"), "not-a-number", "monto"),
    "a negative amount": InvalidPayload(payload(monto="-5"), "out-of-range", "monto"),
    "no date": InvalidPayload(payload(fecha=...), "missing-field", "fecha"),
    "31 February": InvalidPayload(payload(fecha="31/02/2020"), "not-a-date", "fecha"),
    "month 13": InvalidPayload(payload(fecha="2020-13-01"), "not-a-date", "fecha"),
    "a date that is a list": InvalidPayload(payload(fecha=["2020-01-05"]), "wrong-type", "fecha"),
    "a date that is true": InvalidPayload(payload(fecha=True), "not-a-date", "fecha"),
    "seconds since 1970, which are not declared": InvalidPayload(payload(fecha=1578254400), "not-a-date", "fecha"),
    "a time of day in another hour": InvalidPayload(payload(fecha="2020-01-05T14:30"), "contradictory-time", "fecha"),
    "the year 9999": InvalidPayload(payload(fecha="9999-12-31"), "out-of-range", "fecha"),
    "no hour": InvalidPayload(payload(hora=...), "missing-field", "hora"),
    "hour 24": InvalidPayload(payload(hora="24"), "out-of-range", "hora"),
    "an hour beyond all numbers of hours": InvalidPayload(payload(hora="1e300"), "out-of-range", "hora"),
    "half an hour": InvalidPayload(payload(hora="7.5"), "out-of-range", "hora"),
    "a gender that is a list": InvalidPayload(payload(genero=["F"]), "wrong-type", "genero"),
    "an endless city": InvalidPayload(payload(ciudad="x" * 300), "too-long", "ciudad"),
    "a prime of perhaps": InvalidPayload(payload(is_prime="perhaps"), "not-a-boolean", "is_prime"),
    "a prime that is a list": InvalidPayload(payload(is_prime=[]), "wrong-type", "is_prime"),
    "a device that is no mapping": InvalidPayload(payload(dispositivo="ANDROID"), "malformed-mapping", "dispositivo"),
    "a device cut short": InvalidPayload(payload(dispositivo="{'model': 2020;"), "malformed-mapping", "dispositivo"),
    "a device that names its system twice": InvalidPayload(
        payload(dispositivo="{'os': 'WEB'; 'os': 'ANDROID'}"), "duplicate-key", "dispositivo"
    ),
    "a device that is a list": InvalidPayload(payload(dispositivo=["WEB"]), "wrong-type", "dispositivo"),
    "a device score in words": InvalidPayload(
        payload(dispositivo="{'device_score': 'high'}"), "not-a-number", "dispositivo.device_score"
    ),
    "a discount in words": InvalidPayload(payload(dcto="ten"), "not-a-number", "dcto"),
    "a transaction id that is a list": InvalidPayload(payload(transaction_id=[]), "wrong-type", "transaction_id"),
}

EQUIVALENT_PAYLOADS: dict[str, bytes] = {
    "decimal points": payload(monto="608.3456335", dcto="60.83456335", cashback="5.475110702"),
    "JSON numbers": payload(
        ID_USER=17, monto=608.3456335, hora=20, linea_tc=71000, interes_tc=51.0, dcto=60.83456335, cashback=5.475110702
    ),
    "JSON booleans": payload(is_prime=False, fraude=False),
    "booleans as Python writes them": payload(is_prime="False", fraude="False"),
    "booleans in small letters": payload(is_prime="false", fraude="0"),
    "Física as it should be": payload(tipo_tc="Física"),
    "Física decomposed": payload(tipo_tc="Fi\u0301sica"),
    "an ISO date": payload(fecha="2020-01-05"),
    "a date of digits": payload(fecha=20200105),
    "a date as an exporter's midnight": payload(fecha="2020-01-05 00:00:00"),
    "a padded date": payload(fecha="05/01/2020"),
    "a time stamp": payload(fecha="2020-01-05T20:00:00", hora=...),
    "a time stamp with its zone": payload(fecha="2020-01-05T14:00:00-06:00", hora=...),
    "a device as Python writes it": payload(dispositivo="{'model': 2020, 'device_score': 3, 'os': 'ANDROID'}"),
    "a device as JSON text": payload(dispositivo='{"model": 2020, "device_score": 3, "os": "ANDROID"}'),
    "a device as an object": payload(dispositivo={"model": 2020, "device_score": 3, "os": "ANDROID"}),
    "a device as an object of texts": payload(dispositivo={"model": "2020", "device_score": "3", "os": "ANDROID"}),
    "white space around": payload(monto=" 608,3456335 ", ciudad=" Merida ", is_prime=" FALSE "),
    "fields nobody declared": payload(color="rojo", tags=["a", "b"], more={"x": {"y": "z"}}),
    "no label": payload(fraude=...),
    "a label that nobody can read": payload(fraude="perhaps"),
    "escapes": json.dumps(VALID_FIELDS, ensure_ascii=True).encode(),
    "a quotation mark and a backslash": payload(note='he said "\\"'),
}
