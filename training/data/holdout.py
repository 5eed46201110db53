"""How much of a history is held out: days for the backtest, then shares for validation and for the test.

Imports nothing, so that a command's help can name the numbers without loading NumPy.
"""

BACKTEST_DAYS = 7  # whole UTC days
VALIDATION_SHARE = 0.15
TEST_SHARE = 0.15
