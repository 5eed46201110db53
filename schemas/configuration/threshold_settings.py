"""The settings of the operating points that training chooses."""

from typing import Annotated, Literal

from schemas.configuration.rule_settings import RuleSettings
from schemas.configuration.setting_types import Cost, Share, about


class ThresholdSettings(RuleSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which scores the model reviews, challenges and declines, and what its mistakes cost."""

    threshold_policy: Annotated[
        Literal["budget", "f2", "cost", "fixed"],
        about(
            "how training sets the review and decline thresholds: by alert `budget`, maximum `f2`, minimum "
            "`cost`, or `fixed`"
        ),
    ] = "budget"
    review_budget: Annotated[Share, about("`budget`: maximum share of transactions that are reviewed or declined")] = (
        0.02
    )
    decline_budget: Annotated[Share, about("`budget`: maximum share of transactions that are declined")] = 0.002
    challenge_budget: Annotated[
        Share | None,
        about(
            "all policies but `fixed`: maximum share of transactions that the model challenges or declines; a "
            "challenge replaces a review. Unset: the model never challenges"
        ),
    ] = None
    review_threshold: Annotated[Share, about("`fixed`: minimum score for review")] = 0.5
    decline_threshold: Annotated[Share, about("`fixed`: minimum score for decline")] = 0.9
    challenge_threshold: Annotated[
        Share | None, about("`fixed`: minimum score for challenge; unset: the model never challenges")
    ] = None
    cost_missed_fraud_share: Annotated[Cost, about("`cost`: cost of a missed fraud, as a share of its amount")] = 1.0
    cost_missed_fraud: Annotated[Cost, about("`cost`: fixed cost of a missed fraud, added to its share")] = 15.0
    cost_review: Annotated[Cost, about("`cost`: cost of a review")] = 5.0
    cost_wrong_decline: Annotated[Cost, about("`cost`: cost of declining a legitimate transaction")] = 50.0
