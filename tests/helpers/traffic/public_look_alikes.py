"""Look-alikes of five public fraud data sets: their columns, types and quirks, with invented values.

Written from public descriptions of PaySim, Sparkov, TabFormer, ULB credit card and IEEE-CIS; no row is copied. Fraud is
more frequent than in the originals, so that small files train.
"""

import csv
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

Row = list[object]
ROWS = 1_500
FRAUD_SHARE = 0.22


def paysim(rng: random.Random, rows: int) -> Iterator[Row]:
    """Mobile money: hours since an unknown start, accounts that pay once, balances after the payment."""
    yield [
        *("step", "type", "amount", "nameOrig", "oldbalanceOrg", "newbalanceOrig", "nameDest"),
        *("oldbalanceDest", "newbalanceDest", "isFraud", "isFlaggedFraud"),
    ]
    for n in range(rows):
        fraud = rng.random() < FRAUD_SHARE
        amount = round(rng.lognormvariate(12 if fraud else 9.5, 1), 2)
        before = amount if fraud else round(rng.lognormvariate(10, 2), 2)
        kind = rng.choice(("CASH_OUT", "TRANSFER") if fraud else ("PAYMENT", "CASH_IN", "CASH_OUT", "DEBIT"))
        there = round(rng.lognormvariate(11, 2), 2)
        yield [
            *(1 + n * 744 // rows, kind, f"{amount:.2f}", f"C{rng.randrange(10**9)}", f"{before:.2f}"),
            *(f"{max(0, before - amount):.2f}", f"{'M' if kind == 'PAYMENT' else 'C'}{rng.randrange(10**9)}"),
            *(f"{there:.2f}", f"{there + amount:.2f}", int(fraud), int(fraud and amount > 1e6)),
        ]


def sparkov(rng: random.Random, rows: int) -> Iterator[Row]:
    """Simulated cards: an index column without a name, names and addresses, a time as text and as seconds."""
    yield [
        *("", "trans_date_trans_time", "cc_num", "merchant", "category", "amt", "first", "last", "gender", "street"),
        *("city", "state", "zip", "lat", "long", "city_pop", "job", "dob", "trans_num", "unix_time"),
        *("merch_lat", "merch_long", "is_fraud"),
    ]
    cards = [rng.randrange(10**11, 10**19) for _ in range(120)]
    categories = ["misc_net", "grocery_pos", "entertainment", "gas_transport", "shopping_net", "food_dining"]
    jobs = ["Psychologist, counselling", "Lawyer", "Surveyor, minerals", "Film/video editor", "Civil Service officer"]
    start = datetime(2019, 1, 1, tzinfo=UTC)
    for n in range(rows):
        fraud = rng.random() < FRAUD_SHARE
        who = rng.randrange(len(cards))
        amount = rng.lognormvariate(6, 0.6) if fraud else rng.lognormvariate(3.5, 1)
        when = start + timedelta(seconds=n * 40 * 86_400 // rows + rng.randrange(60))
        person = random.Random(who)  # the same address for each payment of a card
        lat, long = 30 + 15 * person.random(), -120 + 40 * person.random()
        yield [
            *(n, f"{when:%Y-%m-%d %H:%M:%S}", cards[who], f"fraud_Merchant {rng.randrange(690)} and Sons"),
            *(
                "shopping_net" if fraud else rng.choice(categories),
                f"{amount:.2f}",
                person.choice(["Ada", "Bo", "Cy"]),
            ),
            *(person.choice(["Ruiz", "Li", "Okoye"]), person.choice("FM"), f"{person.randrange(999)} Cove Apt. {who}"),
            *(person.choice(["Orient", "Malad", "Dover", "Tulsa"]), person.choice(["NC", "WA", "ID", "MT"])),
            *(person.randrange(10_000, 99_999), f"{lat:.4f}", f"{long:.4f}", person.randrange(100, 90_000)),
            *(
                person.choice(jobs),
                f"{1940 + person.randrange(60)}-{1 + person.randrange(12):02}-{1 + person.randrange(28):02}",
            ),
            *(f"{rng.getrandbits(128):032x}", int(when.timestamp()) - 7 * 365 * 86_400),
            *(f"{lat + rng.random():.6f}", f"{long + rng.random():.6f}", int(fraud)),
        ]


def tabformer(rng: random.Random, rows: int) -> Iterator[Row]:
    """Synthetic cards: the date in four columns, `$` before amounts, zip codes as floats, Yes and No."""
    yield [
        *("User", "Card", "Year", "Month", "Day", "Time", "Amount", "Use Chip", "Merchant Name", "Merchant City"),
        *("Merchant State", "Zip", "MCC", "Errors?", "Is Fraud?"),
    ]
    start = datetime(2019, 1, 1, tzinfo=UTC)
    merchants = [rng.randrange(-(2**63), 2**63) for _ in range(300)]
    for n in range(rows):
        fraud = rng.random() < FRAUD_SHARE
        online = rng.random() < (0.8 if fraud else 0.1)
        amount = rng.lognormvariate(5.5 if fraud else 3.5, 0.8) * (-1 if rng.random() < 0.05 else 1)
        when = start + timedelta(minutes=n * 40 * 1_440 // rows)
        chip = "Online Transaction" if online else rng.choice(("Swipe Transaction", "Chip Transaction"))
        state = "" if online else rng.choice(["CA", "TX", "NY", "FL"])
        yield [
            *(rng.randrange(150), rng.randrange(4), when.year, when.month, when.day, f"{when:%H:%M}"),
            *(f"${amount:.2f}", chip, rng.choice(merchants), "ONLINE" if online else "La Verne", state),
            *("" if online else f"{rng.choice((91750, 2115, 10001))}.0", rng.choice((5300, 5411, 5912, 4829))),
            *("Insufficient Balance," if rng.random() < 0.02 else "", "Yes" if fraud else "No"),
        ]


def ulb(rng: random.Random, rows: int) -> Iterator[Row]:
    """Two days of European cards: seconds since the first payment, 28 components, no card holder."""
    components = [f"V{i}" for i in range(1, 29)]
    yield ["Time", *components, "Amount", "Class"]
    for n in range(rows):
        fraud = rng.random() < FRAUD_SHARE
        values = [rng.gauss(-2 if fraud and i in (14, 17) else 0, 1) for i in range(1, 29)]
        amount = f"{rng.lognormvariate(3, 1.5):.2f}".rstrip("0").rstrip(".")
        yield [n * 172_792 // rows, *(f"{v:.14g}" for v in values), amount, int(fraud)]


def ieee(rng: random.Random, rows: int) -> Iterator[Row]:
    """E-commerce: seconds since an unknown start, 394 columns of which most values are missing."""
    names = [
        *("TransactionID", "isFraud", "TransactionDT", "TransactionAmt", "ProductCD"),
        *(f"card{i}" for i in range(1, 7)),
        *("addr1", "addr2", "dist1", "dist2", "P_emaildomain", "R_emaildomain"),
        *(f"C{i}" for i in range(1, 15)),
        *(f"D{i}" for i in range(1, 16)),
        *(f"M{i}" for i in range(1, 10)),
        *(f"V{i}" for i in range(1, 340)),
    ]
    yield list(names)
    cards = [rng.randrange(1_000, 18_397) for _ in range(200)]
    for n in range(rows):
        fraud = rng.random() < FRAUD_SHARE
        amount = rng.lognormvariate(4.6 if fraud else 4, 0.8)
        card = rng.choice(cards)
        sparse = [f"{float(rng.randrange(5))}" if rng.random() < 0.3 else "" for _ in range(339)]
        yield [
            *(2_987_000 + n, int(fraud), 86_400 + n * 40 * 86_400 // rows, f"{amount:.3f}".rstrip("0")),
            *("C" if fraud and rng.random() < 0.7 else rng.choice("WHRS"), card),
            *(f"{rng.randrange(100, 600)}.0", "150.0", rng.choice(("visa", "mastercard", "discover")), "226.0"),
            *(rng.choice(("debit", "credit")), f"{rng.randrange(100, 540)}.0", "87.0"),
            *(f"{rng.randrange(900)}.0" if rng.random() < 0.4 else "", ""),
            *(rng.choice(("gmail.com", "yahoo.com", "")), "gmail.com" if rng.random() < 0.25 else ""),
            *(f"{rng.randrange(8) + (3 if fraud else 0)}.0" for _ in range(14)),
            *(f"{rng.randrange(400)}.0" if rng.random() < 0.5 else "" for _ in range(15)),
            *(rng.choice(("T", "F", "")) for _ in range(3)),
            *(rng.choice(("M0", "M1", "M2", "")), *(rng.choice(("T", "F", "")) for _ in range(5))),
            *sparse,
        ]


LOOK_ALIKES: dict[str, Callable[[random.Random, int], Iterator[Row]]] = {
    generator.__name__: generator for generator in (paysim, sparkov, tabformer, ulb, ieee)
}


def write_look_alike(name: str, folder: Path, rows: int = ROWS, seed: int = 1) -> Path:
    """Write one of them as CSV, named after it."""
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(LOOK_ALIKES[name](random.Random(seed), rows))
    return path
