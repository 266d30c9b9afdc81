"""The fused epoch: a whole epoch of a network in one call.

m rows, k inputs and n units of a layer, c classes. With A the layer's inputs (the first one's are the rows X), G the
gradient of its sums Z, and f the hidden layers' activation, such as ReLU:

    Z = A W + B      A of the next layer = f(Z)      G of the last layer = its predictions, such as softmax(Z), - Y
    dA = G W' * f'(Z), the G of the layer before      dW = (A' G + penalty W) / m      dB = sum(G) / m

A network is trained in parts, whose weights no other part reads or writes. In turn, a part owns some of a layer's units
and takes all of its inputs, and then owns the weights of those units in the next layer, whose inputs they are:

    it owns        of Z it computes          of dA it computes                  which layers
    some units     its own units, whole      what all parts' add up to          the 1st, 3rd, 5th ...
    some inputs    what all parts' add up to its own inputs', whole             the 2nd, 4th ...; a network's only layer
    everything     all                       all, each part the same            a small last one of an odd number

What adds up goes to an exchange, and then each part computes the same sums, in the same order. So no dW is ever summed
across parts, and the same number of parts gives the same bits, whichever thread of the `team` works on which part: one
each, as long as none is late. A step has as many stages as exchanges, one for a network with one hidden layer; an item
of a part's work is what lies between two exchanges. Of several networks, each is trained by one thread.

Large batches are computed in pieces, whose gradients add up.

Storage: the first layer's units come in panels of one line, the last one padded with zeros, which stay zero: (panels,
k, line). Later layers are transposed, (n, k), each row in whole lines, so that few classes need no padding.
"""

from __future__ import annotations

from .backward import backward
from .forward import forward
from .jit import inlined, jit
from .loss import loss
from .pace import begin, crew_of, review
from .records import Buffers, Epoch, Floats, Network, Team, Totals, Updates, buffers_of, piece_of
from .team import LONG_NAP, NAP, PATIENCE, all_done, claim, finish, is_dismissed, nap, now


@jit
def train_parts(
    network: Network, epoch: Epoch, updates: Updates, team: Team, buffers: Buffers, totals: Floats, home: int
) -> bool:
    """One thread's work for the epoch: its own part's items and, when their threads are late, those of others.

    buffers and totals (parts, 2 or more) are those of all parts; home: the thread's own. False if the team was
    dismissed meanwhile: the weights are then useless.
    """
    leads, parts = home == 0, network.layers.shape[0]
    if leads:
        begin(team.pace)
    for item in range(len(epoch.pieces) * (len(network.segments) - 2) + 1):
        looks = waiting_since = 0
        while not all_done(team.counters, parts, item):
            if is_dismissed(team.counters):
                return False
            crew = crew_of(team.pace)
            if home >= crew:
                nap(LONG_NAP)
                continue
            first, apart = (home, crew) if looks < PATIENCE else (0, 1)
            _take_items(network, epoch, updates, team, buffers, totals, item, first, apart)
            if leads and looks == 0:
                waiting_since = now()
            looks += 1
            if looks > 2 * PATIENCE:
                nap(NAP)
        if leads:
            review(team.pace, parts, waiting_since)
    return True


@inlined
def _take_items(
    network: Network, epoch: Epoch, updates: Updates, team: Team, buffers: Buffers, totals: Floats, item: int,
    first: int, apart: int,
) -> None:  # fmt: skip
    """Do that item of every apart-th part from the first one on, where nobody else has begun it."""
    for part in range(first, network.layers.shape[0], apart):
        if claim(team.counters, part, item):
            _work(network, epoch, updates, team, buffers_of(buffers, part), totals[part], part, item)
            finish(team.counters, part)


@jit
def _work(
    network: Network, epoch: Epoch, updates: Updates, team: Team, own: Buffers, totals: Totals, part: int, item: int
) -> None:
    """A part's item: what follows an exchange of a piece, up to the next; after its last one, the next piece's first.

    There are two memories to exchange in: some part may still be reading the other one.
    """
    stages, layers = len(network.segments) - 2, network.layers.shape[1]
    arrived, leaving = team.exchange[(item + 1) % 2], team.exchange[item % 2, part]
    number, segment = item // stages, item % stages
    begin = number - (segment == 0)  # with what is left to do of the piece before
    for current in range(max(begin, 0), min(number + 1, len(epoch.pieces))):
        piece, here = piece_of(epoch.pieces, current), segment if current == number else stages
        for place in range(network.segments[here], network.segments[here + 1]):
            if place == layers:
                loss(network, epoch, own, arrived, part, piece, totals)
            if place < layers:
                forward(network, epoch, own, arrived, leaving, part, place, piece)
            else:
                backward(network, epoch, updates, own, arrived, leaving, part, 2 * layers - 1 - place, piece, totals)


@jit
def evaluate_pieces(
    network: Network, epoch: Epoch, own: Buffers, nothing: Floats, totals: Totals, part: int, first: int, stop: int
) -> None:
    """The totals of pieces first to stop, leaving the network as it is: its only part, from which nothing leaves."""
    for number in range(first, stop):
        piece = piece_of(epoch.pieces, number)
        for layer in range(network.layers.shape[1]):
            forward(network, epoch, own, nothing, nothing[0], part, layer, piece)
        loss(network, epoch, own, nothing, part, piece, totals)
