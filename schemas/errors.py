"""Errors that end a command with one line.

Invalid input from outside does not raise: it becomes a `Rejection`. A fault of the installation raises one of these::

    TamizError
    ├── ConfigError         a setting is missing or malformed; names the setting, the value and the remedy
    ├── SchemaError         a data set declaration contradicts itself; names the file and the field
    ├── RuleError           a rules file cannot be compiled; names the rule, the position and the remedy
    ├── TrainingError       the labelled history cannot train a model; states what is missing
    ├── BrokerError         the embedded broker cannot start, or no broker responds
    ├── ModelUnavailableError    the registry holds no champion, or cannot be reached and no bundle is cached
    └── ModelIncompatibleError   the bundle is damaged or was trained on other features than this code computes
"""


class TamizError(Exception):
    """Base class. The command line prints the message as one line and exits with code 2."""


class ConfigError(TamizError):
    """A setting is missing or malformed; names the setting, the value and the remedy."""


class SchemaError(TamizError):
    """A data set declaration contradicts itself; names the file and the field."""


class RuleError(TamizError):
    """A rules file cannot be compiled; names the rule, the position and the remedy."""


class TrainingError(TamizError):
    """The labelled history cannot train a model; states what is missing."""


class BrokerError(TamizError):
    """The embedded broker cannot start, or no broker answers."""


class ModelUnavailableError(TamizError):
    """The registry holds no champion, or cannot be reached and no bundle is cached."""


class ModelIncompatibleError(TamizError):
    """The bundle is damaged or was trained on other features than this code computes."""
