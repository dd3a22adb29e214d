"""The kernels of the course's last chapter in plain Python: one number at a time, one line for each line of algebra.

Arrays are nested: `inp[s][i]` is input i of sample s, `weight[i][h]` leads from input i to unit h. The tests compare
each function with the kernel of the same name.
"""

import math
import time


def matmul(inp, weight, out):
    for s in range(len(inp)):
        for h in range(len(weight[0])):
            total = 0.0
            for i in range(len(weight)):
                total += inp[s][i] * weight[i][h]
            out[s][h] = total


def trailing_zeros(word):
    return (word & -word).bit_length() - 1  # word & -word keeps only the lowest set bit


def add_sparse_product(out, values, nonzero_masks, weight):
    for i in range(len(weight)):
        todo = nonzero_masks[i]
        while todo:
            s = trailing_zeros(todo)
            todo &= todo - 1
            for h in range(len(weight[i])):
                out[s][h] += values[i][s] * weight[i][h]


def sparse_weight_gradient(dout, values, nonzero_masks, i):
    total, todo = [0.0] * len(dout[0]), nonzero_masks[i]
    used = todo != 0
    while todo:
        s = trailing_zeros(todo)
        todo &= todo - 1
        for h in range(len(total)):
            total[h] += values[i][s] * dout[s][h]
    return total, used


def softmax_columns(row, row_weight):
    top = max(row)
    best = row.index(top)
    for c in range(len(row)):
        row[c] = math.exp(row[c] - top)
    total = sum(row)
    for c in range(len(row)):
        row[c] *= row_weight / total
    return top, total, best


def apply_update_rows(weight, gradient, rate, l2):
    squares = 0.0
    for i in range(len(weight)):
        for h in range(len(weight[i])):
            w = weight[i][h]
            weight[i][h] = w - rate * (gradient[i][h] + l2 * w)
            squares += w * w
    return squares if l2 else 0.0


def wait(team):
    with team.lock:
        complete = (team.count // team.threads + 1) * team.threads
        team.count += 1
    while team.count < complete:
        if team.stop:
            return False
        time.sleep(0)  # yield the core
    return not team.stop
