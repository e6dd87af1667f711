"""The neocognitron cell by cell in NumPy loops, float64, from Fukushima 1980, doi:10.1007/BF00344251. It shares no code with jaxnn."""

import itertools
import math

import numpy as np


def at(u, row, column, k):
    """0 outside the plane."""
    inside = 0 <= row < u.shape[0] and 0 <= column < u.shape[1]
    return float(u[row, column, k]) if inside else 0.0


def first(before, area, stride, cells):
    """Where the area of the first cell of a row begins."""
    return -(((cells - 1) * stride + area - before) // 2)


def fall(area, i, j):
    middle = (area - 1) / 2
    return 0.9 ** math.sqrt((i - middle) ** 2 + (j - middle) ** 2)


def c(area, planes, i, j):
    whole = sum(fall(area, *place) for place in itertools.product(range(area), repeat=2))
    return fall(area, i, j) / (whole * planes)


def inhibitory_cell(stage, u, row, column):
    """v = √Σ c u²."""
    corner, total = first(len(u), stage.area, 1, stage.size), 0.0
    for i, j, k in itertools.product(range(stage.area), range(stage.area), range(u.shape[2])):
        total += c(stage.area, u.shape[2], i, j) * at(u, corner + row + i, corner + column + j, k) ** 2
    return math.sqrt(total)


def s_cell(stage, a, b, u, row, column, plane):
    """r φ[(1 + Σ a u) / (1 + 2r/(1 + r) b v) - 1]; a (area², planes before, planes)."""
    corner, total, r = first(len(u), stage.area, 1, stage.size), 0.0, stage.selectivity
    for i, j, k in itertools.product(range(stage.area), range(stage.area), range(u.shape[2])):
        total += a[i * stage.area + j, k, plane] * at(u, corner + row + i, corner + column + j, k)
    x = (1 + total) / (1 + 2 * r / (1 + r) * b[plane] * inhibitory_cell(stage, u, row, column)) - 1
    return r * max(x, 0.0)


def near(stage, s, row, column, plane):
    """Σ d u_S of a C-cell's area."""
    corner = first(len(s), stage.pool, stage.stride, stage.pooled)
    return sum(
        fall(stage.pool, i, j) * at(s, corner + stage.stride * row + i, corner + stage.stride * column + j, plane)
        for i, j in itertools.product(range(stage.pool), repeat=2)
    )


def c_cell(stage, s, row, column, plane):
    """ψ[(1 + Σ d u_S) / (1 + v_S) - 1], v_S the mean over the planes, ψ[x] = φ[x / (α + x)]."""
    lateral = sum(near(stage, s, row, column, k) for k in range(stage.planes)) / stage.planes
    x = (1 + near(stage, s, row, column, plane)) / (1 + lateral) - 1
    return max(x / (stage.saturation + x), 0.0) if x > 0 else 0.0


def layers(stages, weights, image):
    """u_S and u_C of every stage."""
    found, u = [], image
    for stage, (a, b) in zip(stages, weights, strict=True):
        s = np.array(
            [[[s_cell(stage, a, b, u, i, j, k) for k in range(stage.planes)] for j in range(stage.size)] for i in range(stage.size)]
        )
        cells = range(stage.pooled)
        u = np.array([[[c_cell(stage, s, i, j, k) for k in range(stage.planes)] for j in cells] for i in cells])
        found.append((s, u))
    return found


def representatives(s, column):
    """{plane: (row, column)}: of every S-column the strongest cell, of every plane the strongest of those."""
    size, _, planes = s.shape
    candidates = set()
    for top, left in itertools.product(range(size - column + 1), repeat=2):
        cells = list(itertools.product(range(top, top + column), range(left, left + column), range(planes)))
        best = max(cells, key=lambda cell: s[cell])  # max takes the first of equal ones
        if s[best] > 0:
            candidates.add(best)
    chosen = {}
    for row, col, k in sorted(candidates):
        if k not in chosen or s[row, col, k] > s[*chosen[k], k]:
            chosen[k] = (row, col)
    return chosen


def taught(stage, a, b, u, s, q):
    """a and b after one image: Δa = q c u, Δb = q/2 v of the representatives."""
    a, b = a.copy(), b.copy()
    corner = first(len(u), stage.area, 1, stage.size)
    for plane, (row, column) in representatives(s, stage.column).items():
        b[plane] += q / 2 * inhibitory_cell(stage, u, row, column)
        for i, j, k in itertools.product(range(stage.area), range(stage.area), range(u.shape[2])):
            a[i * stage.area + j, k, plane] += q * c(stage.area, u.shape[2], i, j) * at(u, corner + row + i, corner + column + j, k)
    return a, b
