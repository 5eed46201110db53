"""The settings of rules."""

from typing import Annotated

from schemas.configuration.kafka_settings import KafkaSettings
from schemas.configuration.setting_types import Natural, about


class RuleSettings(KafkaSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may put rules in force, and after which test."""

    rules_second_person: Annotated[
        bool, about("whether a ruleset takes effect only when a second person approves the one that the first proposed")
    ] = False
    rules_min_test_days: Annotated[
        Natural,
        about(
            "days of event time that `tamiz rules test` must cover before a rule goes live; one in shadow needs no test"
        ),
    ] = 7
