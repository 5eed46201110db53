"""The compiled loop that runs the program of a ruleset, block by block of rows.

Every operation is a loop without branches over the rows of a block. A comparison with NaN is false, so that it leaves
a truth unknown without a test of its own; x - x is 0 for a finite number and else NaN, so that adding it makes a number
missing that is not finite.
"""

import numpy as np

from scoring.arrays import Array, Bytes, Floats
from scoring.compilation import compiled
from scoring.rules.program import (
    ABSOLUTE,
    ADD,
    AND,
    COALESCE,
    CONSTANT,
    DIVIDE,
    EQUALS_C,
    IS_ABOVE_C,
    IS_AT_LEAST_C,
    IS_AT_MOST,
    IS_AT_MOST_C,
    IS_BELOW_C,
    IS_EQUAL,
    IS_LESS,
    IS_MISSING,
    IS_SAME,
    LEVEL_TRUTH,
    LOAD,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    NEGATE,
    NOT,
    OR,
    ROW_TRUTH,
    STORE,
    SUBTRACT,
    TRUTH_C,
)

ROWS_PER_BLOCK = 256


@compiled
def run_program(
    code: Array,  # int32, shape (n_operations, 4)
    constants: Floats,
    numbers: Floats,  # shape (n_number_inputs, n)
    level_truths: Bytes,  # shape (n_level_predicates, >= n_levels)
    levels: Array,  # int32, shape (n_texts, n): index of each row's level
    row_truths: Bytes,  # shape (n_row_predicates, n)
    n_number_registers: int,
    n_truth_registers: int,
    out: Bytes,  # shape (n_rules, n)
) -> None:
    """Truth of each rule for each row."""
    n = out.shape[1]
    number = np.empty((n_number_registers, ROWS_PER_BLOCK), np.float64)
    truth = np.empty((n_truth_registers, ROWS_PER_BLOCK), np.uint8)
    for start in range(0, n, ROWS_PER_BLOCK):
        size = min(ROWS_PER_BLOCK, n - start)
        for k in range(len(code)):
            op, d, a, b = code[k, 0], code[k, 1], code[k, 2], code[k, 3]
            c = constants[k]
            if op == AND:
                for i in range(size):
                    truth[d, i] = truth[a, i] if truth[a, i] < truth[b, i] else truth[b, i]
            elif op == OR:
                for i in range(size):
                    truth[d, i] = truth[a, i] if truth[a, i] > truth[b, i] else truth[b, i]
            elif op == NOT:
                for i in range(size):
                    truth[d, i] = np.uint8(2) - truth[a, i]
            elif op == IS_ABOVE_C:
                for i in range(size):
                    truth[d, i] = 2 if number[a, i] > c else (0 if number[a, i] <= c else 1)
            elif op == IS_AT_LEAST_C:
                for i in range(size):
                    truth[d, i] = 2 if number[a, i] >= c else (0 if number[a, i] < c else 1)
            elif op == IS_BELOW_C:
                for i in range(size):
                    truth[d, i] = 2 if number[a, i] < c else (0 if number[a, i] >= c else 1)
            elif op == IS_AT_MOST_C:
                for i in range(size):
                    truth[d, i] = 2 if number[a, i] <= c else (0 if number[a, i] > c else 1)
            elif op == EQUALS_C:
                for i in range(size):
                    x = number[a, i]
                    truth[d, i] = 2 if x == c else (0 if (x < c) | (x > c) else 1)
            elif op == IS_LESS:
                for i in range(size):
                    truth[d, i] = 2 if number[a, i] < number[b, i] else (0 if number[a, i] >= number[b, i] else 1)
            elif op == IS_AT_MOST:
                for i in range(size):
                    truth[d, i] = 2 if number[a, i] <= number[b, i] else (0 if number[a, i] > number[b, i] else 1)
            elif op == IS_EQUAL:
                for i in range(size):
                    x, y = number[a, i], number[b, i]
                    truth[d, i] = 2 if x == y else (0 if (x < y) | (x > y) else 1)
            elif op == LEVEL_TRUTH:
                for i in range(size):
                    truth[d, i] = level_truths[a, np.uintp(levels[b, start + i])]
            elif op == ROW_TRUTH:
                truth[d, :size] = row_truths[a, start : start + size]
            elif op == IS_MISSING:
                for i in range(size):
                    truth[d, i] = 0 if number[a, i] == number[a, i] else 2
            elif op == IS_SAME:
                for i in range(size):
                    x, y = truth[a, i], truth[b, i]
                    truth[d, i] = 1 if (x == 1) | (y == 1) else (2 if x == y else 0)
            elif op == TRUTH_C:
                truth[d, :size] = np.uint8(c)
            elif op == LOAD:
                for i in range(size):
                    x = numbers[a, start + i]
                    number[d, i] = x + (x - x)
            elif op == CONSTANT:
                number[d, :size] = c
            elif op == ADD:
                for i in range(size):
                    x = number[a, i] + number[b, i]
                    number[d, i] = x + (x - x)
            elif op == SUBTRACT:
                for i in range(size):
                    x = number[a, i] - number[b, i]
                    number[d, i] = x + (x - x)
            elif op == MULTIPLY:
                for i in range(size):
                    x = number[a, i] * number[b, i]
                    number[d, i] = x + (x - x)
            elif op == DIVIDE:
                for i in range(size):
                    x = np.divide(number[a, i], number[b, i])  # `/` would test for 0
                    number[d, i] = x + (x - x)
            elif op == NEGATE:
                for i in range(size):
                    number[d, i] = -number[a, i]
            elif op == ABSOLUTE:
                for i in range(size):
                    number[d, i] = abs(number[a, i])
            elif op == MINIMUM:
                for i in range(size):
                    x, y = number[a, i], number[b, i]
                    number[d, i] = (x if x < y else y) if x == x else x
            elif op == MAXIMUM:
                for i in range(size):
                    x, y = number[a, i], number[b, i]
                    number[d, i] = (x if x > y else y) if x == x else x
            elif op == COALESCE:
                for i in range(size):
                    number[d, i] = number[a, i] if number[a, i] == number[a, i] else number[b, i]
            elif op == STORE:
                out[d, start : start + size] = truth[a, :size]
