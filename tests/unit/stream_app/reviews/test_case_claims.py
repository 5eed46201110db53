"""Claims: one person at a time works on a case, and nobody blocks it for long."""

from stream_app.reviews.case_claims import CLAIM_TIMEOUT_S, CaseClaims, Holder


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_first_one_holds_the_case_until_the_claim_ends() -> None:
    clock = ManualClock()
    claims = CaseClaims(clock)
    assert claims.claim("a", "ana") == Holder("ana", 100.0 + CLAIM_TIMEOUT_S)
    assert claims.claim("a", "ben").user == "ana"
    clock.now_s += CLAIM_TIMEOUT_S - 1
    assert claims.claim("a", "ana").until_s == clock.now_s + CLAIM_TIMEOUT_S, "renewed"
    clock.now_s += CLAIM_TIMEOUT_S
    assert claims.holder("a") is None
    assert claims.claim("a", "ben").user == "ben"
    claims.end("a")
    claims.end("a")
    assert claims.claim("a", "ana").user == "ana"


def test_who_opens_the_next_case_leaves_the_former() -> None:
    claims = CaseClaims()
    claims.claim("a", "ana")
    claims.claim("b", "ana")
    assert claims.claim("a", "ben").user == "ben"
    assert claims.claim("b", "ben").user == "ana"
    assert claims.claim("a", "eva").user == "ben", "a refused claim takes nothing away"
