"""How much of a history is held out: days for the backtest, then a share for the test.

Imports nothing, so that a command's help can name the numbers without loading NumPy.
"""

BACKTEST_DAYS = 7  # whole UTC days
TEST_SHARE = 0.2
