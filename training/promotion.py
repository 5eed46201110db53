"""No promotion without proof: a new version against the skill gate, and against the champion on the same rows."""

from typing import Literal

import msgspec

from monitoring.model import ScoringModel
from schemas.errors import ModelIncompatible, ModelUnavailable
from schemas.promotion_log import Move
from schemas.settings import Settings
from training import moves
from training.backtest import Window
from training.gate import Verdict
from training.history import History
from training.moves import MoveRefusedError
from training.registered import registered_model
from training.versions import Compared, Comparison, compare

DECIDED_BY = "roc_auc"
GUARDED_BY = "average_precision"
COMPARISONS = 3  # with a champion that changes meanwhile
WORDS = {"roc_auc": "ROC AUC", "average_precision": "average precision"}


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a new version, and why."""

    status: Literal["promoted", "retained", "not enough matured labels", "awaiting approval"]
    sentence: str  # for people
    comparison: Comparison | None = None  # with the champion on the backtest's rows; None: there was nothing to compare


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides while a new version is judged."""

    version: int
    forced: bool  # it has shown no skill and decides by a person's word
    comparison: Comparison | None  # of the new version (this) with it (other)
    incomparable: str | None = None  # why there is none


def judge(verdict: Verdict, champion: Champion | None, *, margin: float = 0.0, by_approval: bool = False) -> Judgement:
    """Let the new version decide if it has shown skill and is provably better than the champion by the margin.

    margin: that the lower bound of the difference in ROC AUC must exceed. Average precision must not be provably worse.
    A champion that was forced has no skill to defend: it gives way to one that has, unless that is provably worse.
    by_approval: a person has the last word on what would be promoted.
    """
    compared = champion.comparison if champion else None
    if not verdict.passed:
        unripe: Literal["not enough matured labels", "retained"] = (
            "retained" if verdict.status == "no skill" else "not enough matured labels"
        )
        return Judgement(status=unripe, sentence=verdict.sentence, comparison=compared)
    if champion is None:
        return _won("There is no champion, and skill is shown", None, by_approval)
    name = f"the champion, version {champion.version}"
    if compared is None:
        why = f"It cannot be compared with {name} ({champion.incomparable}): a person must decide."
        return Judgement(status="awaiting approval", sentence=why)
    if not compared.metrics:
        few = f"Too few labels have matured to compare it with {name}: {compared.reason}."
        return Judgement(status="not enough matured labels", sentence=few, comparison=compared)
    auc, ap = (_of(compared, metric) for metric in (DECIDED_BY, GUARDED_BY))
    told = f"{_told(auc)}, {_told(ap)}, on the same {compared.n:,} rows"
    if ap.difference.high < 0 or auc.difference.high < 0:
        return Judgement(status="retained", sentence=f"It is provably worse than {name}: {told}.", comparison=compared)
    if champion.forced:
        return _won(f"It has shown skill, which {name}, never did: {told}", compared, by_approval)
    if auc.difference.low > margin:
        return _won(f"It is better than {name}, by more than {margin:g}: {told}", compared, by_approval)
    return Judgement(
        status="retained",
        sentence=f"It is not provably better than {name}, by more than {margin:g}: {told}.",
        comparison=compared,
    )


def _won(sentence: str, comparison: Comparison | None, by_approval: bool) -> Judgement:
    if by_approval:
        waits = f"{sentence}; it waits for `tamiz models promote`."
        return Judgement(status="awaiting approval", sentence=waits, comparison=comparison)
    return Judgement(status="promoted", sentence=f"{sentence}.", comparison=comparison)


def _of(comparison: Comparison, metric: str) -> Compared:
    return next(m for m in comparison.metrics if m.metric == metric)


def _told(m: Compared) -> str:
    d = m.difference
    return f"{WORDS[m.metric]} {m.this:.4f} against {m.other:.4f} (difference {d.low:+.4f} to {d.high:+.4f})"


def meet(
    settings: Settings, this: ScoringModel, history: History, week: Window
) -> tuple[Champion | None, ScoringModel | None]:
    """The champion as it compares with a new version on the backtest's rows, and its model where it could be loaded.

    Raises ModelUnavailable when the registry cannot be reached.
    """
    if (version := moves.champion(settings)) is None:
        return None, None
    try:
        other = registered_model(settings, version)
    except (ModelIncompatible, ModelUnavailable) as error:
        return Champion(version=version, forced=False, comparison=None, incomparable=str(error)), None
    if other.manifest.dataset != this.manifest.dataset:
        why = f"it reads the data set {other.manifest.dataset!r}"
        return Champion(version=version, forced=False, comparison=None, incomparable=why), None
    compared = compare(this, other, history, week)
    return Champion(version=version, forced=other.manifest.forced, comparison=compared), other


def carry_out(
    settings: Settings,
    version: int,
    judgement: Judgement,
    *,
    force: str | None = None,
    by: str | None = None,
    loop_id: str | None = None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> Move:
    """Move the version as judged, and write it down. force: a person's reason to promote whatever was judged.

    compared_with: the champion that was judged against; MoveRefusedError when it is champion no more.
    Raises ModelUnavailable when the registry cannot be reached.
    """
    if judgement.status == "promoted" or force is not None:
        reason = judgement.sentence if force is None else f"forced: {force}"
        if force is not None:
            compared_with = msgspec.UNSET
        return moves.promote(
            settings,
            version,
            reason,
            evidence=judgement.sentence,
            by=by,
            loop_id=loop_id,
            compared_with=compared_with,
        )
    change: Literal["awaiting-approval", "retained"] = (
        "awaiting-approval" if judgement.status == "awaiting approval" else "retained"
    )
    return moves.challenge(
        settings,
        version,
        change,
        judgement.sentence,
        evidence=judgement.status,
        by=by,
        loop_id=loop_id,
        compared_with=compared_with,
    )


def compete(
    settings: Settings,
    this: ScoringModel,
    verdict: Verdict,
    history: History,
    week: Window,
    *,
    force: str | None = None,
    by: str | None = None,
    loop_id: str | None = None,
) -> tuple[ScoringModel | None, Judgement, Move]:
    """Compare a new version with the champion and carry out what comes of it; the champion's model, if it was loaded.

    A comparison takes minutes, and the champion may change meanwhile: then it is made again, with the new one.
    Raises MoveRefusedError when the champion changes again and again, or the loop is answered already;
    ModelUnavailable when the registry cannot be reached.
    """
    for attempt in range(COMPARISONS):
        champion, other = meet(settings, this, history, week)
        judgement = judge(
            verdict, champion, margin=settings.promotion_margin, by_approval=settings.promotion == "approval"
        )
        against = champion.version if champion else None
        try:
            move = carry_out(
                settings, this.version, judgement, force=force, by=by, loop_id=loop_id, compared_with=against
            )
            return other, judgement, move
        except MoveRefusedError:
            if attempt == COMPARISONS - 1 or moves.champion(settings) == against:
                raise
    raise AssertionError("unreachable")


def promote_by_hand(
    settings: Settings, version: int, reason: str, *, by: str | None = None, answers: int | None = None
) -> Move:
    """A person's promotion of a registered version that has shown skill.

    answers: number of the move that the person has seen as the version's last; None: what is the last now. Damages of
    the history are accepted with it.

    Raises ModelUnavailable when there is no such version, when it has shown no skill and was not trained with a reason
    to decide without, or when the registry cannot be reached; MoveRefusedError when somebody was a moment earlier.
    """
    accepts = moves.standing(settings).fingerprint
    known = moves.versions(settings)
    champion = next((v.version for v in known if v.standing == "champion"), None)
    found = next((v for v in known if v.version == version), None)
    if found is None:
        raise ModelUnavailable(f"{settings.model} has no version {version}; `tamiz models list` names those there are")
    # Where the alias differs, to promote the champion again is how a person sets it right.
    if version == champion and moves.alias_disagreement(settings) is None:
        raise ModelUnavailable(f"{settings.model} version {version} is champion already")
    if found.verdict != "skill" and found.forced is None:
        raise ModelUnavailable(
            f"{settings.model} version {version} has not shown skill ({found.verdict or 'it was never judged'}) and "
            "may not decide; `tamiz train FILE --force REASON` registers one that does all the same, and says so"
        )
    evidence = found.tags.get("verdict_sentence")
    return moves.promote(
        settings,
        version,
        reason,
        evidence=evidence,
        by=by,
        compared_with=champion,
        answers=found.last_number if answers is None else answers,
        accepts=accepts,
    )
