"""The fused epoch: a whole epoch of a network with one hidden layer in one call.

Shapes: batch m, inputs d, hidden units h, classes c. With (Z1 > 0) the ReLU's mask, and the batch's rows X:

    Z1 = X W1 + B1        H = max(Z1, 0)        Z2 = H W2 + B2        G = (softmax(Z2) - Y)
    dH = G W2' * (H > 0)      dW2 = H' G / m      dB2 = sum(G) / m      dW1 = X' dH / m      dB1 = sum(dH) / m

A network is trained in parts: each owns some of the hidden units, that is columns of W1 and rows of W2, which no other
part reads or writes. Only Z2 needs all of them: every part writes its contribution to an exchange, once per step, and
then each computes the same G from the same contributions in the same order. So no gradient is ever summed across parts,
and the same number of parts gives the same bits, whichever thread of the `team` works on which part: one each, as long
as none is late. Of several networks, each is trained by one thread.

Storage: hidden units come in panels of one cache line (16 float32 or 8 float64), the last one padded with zeros,
which stay zero; W1 as (panels, d, line), W2 transposed, (c, units), part after part. Each array has a leading axis
of slots: the value, then each moment of the optimizer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .exponential import exponential
from .jit import inlined, jit
from .optimizers import take_step
from .pace import begin, crew_of, review
from .records import Buffers, Epoch, Floats, Integers, Share, Step, Team, Updates, Weights
from .team import LONG_NAP, NAP, PATIENCE, all_done, claim, finish, is_dismissed, nap, now
from .tile import depth_product, rows_product

Totals = NDArray[np.float64]  # (2,): the summed loss and the hits

ROWS = 64  # of a batch that are multiplied at once
FIRST = np.zeros(1, np.int64)  # a table of one position
CHUNK = 128  # inputs whose gradient is computed and applied at once, so that both stay in the nearest caches


@inlined
def _update(slots: Floats, start: int, count: int, sums: Floats, step: Step, kept: float) -> None:
    """Take one step on values [start : start + count], by sums[:count] over the batch."""
    take_step(step.rule, slots, start, count, sums, step.mean_factor, step.coefficients, kept)


@inlined
def _hidden_layer(weights: Weights, epoch: Epoch, own: Buffers, share: Share, rows: Integers, m: int) -> None:
    """own.hidden = ReLU(X W1 + B1) for the part's units, and own.transposed; rows continue with the next batch's.

    Where X = (F - mean) * scale, the stored features F stay as they are: X W1 + B1 = scale (F W1 - shift) + B1.
    """
    line, h, padded = share.line, share.units, share.padded
    w1, b1 = weights.w1[0], weights.b1[0, share.first : share.first + h]
    ahead = rows[m:]
    for i in range(0, m, ROWS):  # few enough to stay in cache from panel to panel
        count = min(ROWS, m - i)
        for column in range(0, h, line):
            panel, place = (share.first + column) * epoch.inputs, i * h + column
            rows_product(epoch.features, rows, i, count, epoch.inputs, w1, panel, line, own.hidden, place, h, ahead,
                         False)  # fmt: skip
    zero, scale, shift = w1.dtype.type(0), w1.dtype.type(epoch.scale), own.shift
    if len(epoch.mean) > 0:
        for column in range(0, h, line):
            panel = (share.first + column) * epoch.inputs
            rows_product(epoch.mean, FIRST, 0, 1, epoch.inputs, w1, panel, line, shift, column, h, FIRST, False)
    for i in range(m):
        row = own.hidden[i * h : (i + 1) * h]
        for j in range(h):
            z = scale * (row[j] - shift[j]) + b1[j]
            row[j] = zero if z < zero else z  # noqa: FURB136  (NaN is not below zero, and stays)
    for j in range(h):
        unit = own.transposed[j * padded : j * padded + m]
        for i in range(m):
            unit[i] = own.hidden[i * h + j]


@inlined
def _partial_logits(weights: Weights, own: Buffers, share: Share, classes: int, partial: Floats) -> None:
    """partial (c, padded m) = the part's contribution to Z2."""
    for i in range(0, share.padded, share.line):
        rows_product(weights.w2[0], own.by_hidden, 0, classes, share.units, own.transposed, i, share.padded, partial, i,
                     share.padded, own.by_hidden, False)  # fmt: skip


@inlined
def _gather_logits(parts: Floats, bias: Floats, own: Buffers, classes: int, padded: int, m: int) -> None:
    """own.gradient = Z2: all contributions, added in order; own.largest and own.first of each sample."""
    for q in range(classes):
        logits = own.gradient[q * padded : q * padded + m]
        for part in range(parts.shape[0]):
            partial = parts[part, q * padded : q * padded + m]
            start = bias[q]
            if part == 0:
                for i in range(m):
                    logits[i] = start + partial[i]
            else:
                for i in range(m):
                    logits[i] += partial[i]
    largest, first = own.largest, own.first
    for i in range(m):
        largest[i], first[i] = own.gradient[i], 0
    for q in range(1, classes):
        logits, number = own.gradient[q * padded : q * padded + m], first.dtype.type(q)
        for i in range(m):
            higher = logits[i] > largest[i] or logits[i] != logits[i]  # NaN, once there, stays
            first[i] = number if higher else first[i]
            largest[i] = logits[i] if higher else largest[i]


@inlined
def _exponentials(own: Buffers, classes: int, padded: int, m: int) -> None:
    """Replace Z2 in own.gradient by exp(Z2 - max Z2); own.total = its sums."""
    total = own.total
    for i in range(m):
        total[i] = 0
    for q in range(classes):
        values = own.gradient[q * padded : q * padded + m]
        for i in range(m):
            values[i] = exponential(values[i] - own.largest[i])  # type: ignore[no-untyped-call]
            total[i] += values[i]


@inlined
def _add_loss(
    own: Buffers, labels: Integers, classes: int, padded: int, m: int, start: int, stop: int, totals: Totals
) -> None:
    """Add loss and hits of samples start to stop to the totals, from Z2, which the exponentials then replace."""
    loss, hits = 0.0, 0
    for i in range(start, stop):
        loss += own.largest[i] - own.gradient[labels[i] * padded + i]
        hits += own.first[i] == labels[i] and own.largest[i] == own.largest[i]  # NaN is not equal to itself
    _exponentials(own, classes, padded, m)
    for i in range(start, stop):
        loss += np.log(own.total[i])
    totals[0] += loss
    totals[1] += hits


@inlined
def _softmax_gradient(own: Buffers, labels: Integers, classes: int, padded: int, m: int) -> None:
    """Replace the exponentials in own.gradient by softmax(Z2) - Y."""
    for q in range(classes):
        values = own.gradient[q * padded : q * padded + m]
        for i in range(m):
            values[i] /= own.total[i]
    for i in range(m):
        own.gradient[labels[i] * padded + i] -= own.gradient.dtype.type(1)


@inlined
def _hidden_gradient(weights: Weights, own: Buffers, share: Share, classes: int, m: int) -> None:
    """own.delta = G W2' * (H > 0)."""
    h, one = share.units, own.delta.dtype.type
    for column in range(0, h, share.line):
        place = own.by_hidden[0] + column
        depth_product(own.gradient, own.by_batch, 0, m, classes, weights.w2[0], place, h, own.delta, column, h,
                      own.by_batch, False)  # fmt: skip
    for k in range(m * h):
        own.delta[k] *= one(own.hidden[k] > 0)  # a product, so that NaN stays


@inlined
def _update_output(weights: Weights, own: Buffers, share: Share, epoch: Epoch, step: Step, m: int) -> None:
    """Update the rows of W2 of the part's units, and its own copy of B2."""
    h, classes, padded = share.units, epoch.classes, share.padded
    for column in range(0, h, share.line):
        rows_product(
            own.gradient, own.by_batch, 0, classes, m, own.hidden, column, h, own.chunk, column, h, own.by_batch, False
        )
    _update(weights.w2, own.by_hidden[0], classes * h, own.chunk, step, step.kept)
    sums = own.sums[:classes]
    sums[:] = 0
    for i in range(m):
        for q in range(classes):
            sums[q] += own.gradient[q * padded + i]
    _update(weights.b2, share.part * classes, classes, sums, step, 1.0)


@inlined
def _update_hidden(
    weights: Weights, own: Buffers, share: Share, epoch: Epoch, rows: Integers, step: Step, m: int
) -> None:
    """Update W1's columns and B1 of the part's units."""
    h, line, inputs = share.units, share.line, epoch.inputs
    sums = own.sums[:h]
    sums[:] = 0
    for i in range(m):
        row = own.delta[i * h : (i + 1) * h]
        for j in range(h):
            sums[j] += row[j]
    for k in range(0, inputs, CHUNK):
        count = min(CHUNK, inputs - k)
        for column in range(0, h, line):
            panel = (share.first + column) * inputs
            depth_product(epoch.features, rows, k, count, m, own.delta, column, h, own.chunk, 0, line, rows, False)
            if len(epoch.mean) > 0:
                _standardize_gradient(epoch, own, k, count, sums[column : column + line])
            _update(weights.w1, panel + k * line, count * line, own.chunk, step, step.kept)
    _update(weights.b1, share.first, h, sums, step, 1.0)


@inlined
def _standardize_gradient(epoch: Epoch, own: Buffers, start: int, count: int, sums: Floats) -> None:
    """X' dH from F' dH in own.chunk (count, line), for inputs from start on: scale (F' dH - mean sum(dH))."""
    line, scale = len(sums), own.chunk.dtype.type(epoch.scale)
    for k in range(count):
        row, mean = own.chunk[k * line : (k + 1) * line], epoch.mean[start + k]
        for j in range(line):
            row[j] = scale * (row[j] - mean * sums[j])


@inlined
def _exchange(team: Team, number: int) -> Floats:
    """Where the parts of that batch meet; those of the batch before may still be read."""
    return team.exchange[number % 2]


@inlined
def _forward(weights: Weights, epoch: Epoch, team: Team, share: Share, own: Buffers, number: int) -> None:
    """The part's contribution to that batch's logits."""
    start = number * epoch.batch_size
    m = min(epoch.batch_size, len(epoch.labels) - start)
    _hidden_layer(weights, epoch, own, share, epoch.rows[start:], m)
    _partial_logits(weights, own, share, epoch.classes, _exchange(team, number)[share.part])


@inlined
def _backward(
    weights: Weights,
    epoch: Epoch,
    updates: Updates,
    team: Team,
    share: Share,
    own: Buffers,
    totals: Totals,
    number: int,
) -> None:
    """From all parts' contributions: the loss of the part's share of that batch, and the step of its weights."""
    classes, padded, start = epoch.classes, share.padded, number * epoch.batch_size
    m = min(epoch.batch_size, len(epoch.labels) - start)
    rows, labels = epoch.rows[start:], epoch.labels[start : start + m]
    _gather_logits(_exchange(team, number), weights.b2[0, share.part * classes :], own, classes, padded, m)
    low, high = m * share.part // team.parts, m * (share.part + 1) // team.parts
    _add_loss(own, labels, classes, padded, m, low, high, totals)
    _softmax_gradient(own, labels, classes, padded, m)
    coefficients = updates.coefficients[number]
    step = Step(updates.rule, 1 / m, coefficients[1:], coefficients[0])
    _hidden_gradient(weights, own, share, classes, m)
    _update_output(weights, own, share, epoch, step, m)
    _update_hidden(weights, own, share, epoch, rows, step, m)


@jit
def _work(
    weights: Weights,
    epoch: Epoch,
    updates: Updates,
    team: Team,
    share: Share,
    own: Buffers,
    totals: Totals,
    number: int,
) -> None:
    """A part's item: what follows the exchange of the batch before, and this batch up to its exchange."""
    if number > 0:
        _backward(weights, epoch, updates, team, share, own, totals, number - 1)
    if number < len(updates.coefficients):
        _forward(weights, epoch, team, share, own, number)


@jit
def _share_of(shares: Integers, part: int) -> Share:
    return Share(part, shares[part, 1], shares[part, 2], shares[part, 3], shares[part, 4])


@jit
def _buffers_of(buffers: Buffers, part: int) -> Buffers:
    return Buffers(
        buffers.hidden[part], buffers.transposed[part], buffers.delta[part], buffers.gradient[part],
        buffers.largest[part], buffers.first[part], buffers.total[part], buffers.chunk[part], buffers.shift[part],
        buffers.sums[part], buffers.by_hidden[part], buffers.by_batch[part],
    )  # fmt: skip


@inlined
def _take_items(
    weights: Weights, epoch: Epoch, updates: Updates, team: Team, shares: Integers, buffers: Buffers,
    totals: Floats, item: int, first: int, apart: int,
) -> None:  # fmt: skip
    """Do that item of every apart-th part from the first one on, where nobody else has begun it."""
    for part in range(first, team.parts, apart):
        if claim(team.counters, part, item):
            share, own = _share_of(shares, part), _buffers_of(buffers, part)
            _work(weights, epoch, updates, team, share, own, totals[part], item)
            finish(team.counters, part)


@jit
def train_parts(
    weights: Weights, epoch: Epoch, updates: Updates, team: Team, shares: Integers, buffers: Buffers,
    totals: Floats, home: int,
) -> bool:  # fmt: skip
    """One thread's work for the epoch: its own part's items and, when their threads are late, those of others.

    shares (parts, 5), buffers (parts, ...) and totals (parts, 2 or more) are those of all parts; home: the thread's
    own. False if the team was dismissed meanwhile: the weights are then useless.
    """
    leads = home == 0
    if leads:
        begin(team.pace)
    for item in range(len(updates.coefficients) + 1):
        looks = waiting_since = 0
        while not all_done(team.counters, team.parts, item):
            if is_dismissed(team.counters):
                return False
            crew = crew_of(team.pace)
            if home >= crew:
                nap(LONG_NAP)
                continue
            first, apart = (home, crew) if looks < PATIENCE else (0, 1)
            _take_items(weights, epoch, updates, team, shares, buffers, totals, item, first, apart)
            if leads and looks == 0:
                waiting_since = now()
            looks += 1
            if looks > 2 * PATIENCE:
                nap(NAP)
        if leads:
            review(team.pace, team.parts, waiting_since)
    return True


@jit
def evaluate_part(
    weights: Weights, epoch: Epoch, share: Share, own: Buffers, start: int, stop: int, totals: Totals
) -> None:
    """The totals of samples start to stop, leaving the network as it is; the share has all hidden units."""
    classes, padded = epoch.classes, share.padded
    logits = np.zeros((1, classes * padded), weights.w1.dtype)
    for first in range(start, stop, epoch.batch_size):
        m = min(epoch.batch_size, stop - first)
        _hidden_layer(weights, epoch, own, share, epoch.rows[first:], m)
        _partial_logits(weights, own, share, classes, logits[0])
        _gather_logits(logits, weights.b2[0], own, classes, padded, m)
        _add_loss(own, epoch.labels[first : first + m], classes, padded, m, 0, m, totals)
