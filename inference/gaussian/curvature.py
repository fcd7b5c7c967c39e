"""The curvature of a log density of many latents as a diagonal and few directions, by products with vectors alone.

    A = -d^2 log p / du^2 = C^(1/2) (I + Q diag(m) Q^T) C^(1/2),   C a diagonal, Q (D, R) orthonormal

A block Krylov space holds the directions in which A differs most from its diagonal; random vectors measure what is left
outside of it. Two diagonals are tried: that of A, found by random signs (Hutchinson 1990), and a constant, which is
right where a common prior meets few rows of data. Source: Golub and Underwood 1977 for the block method;
Halko, Martinsson and Tropp 2011 for the measure.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

Products = Callable[[torch.Tensor], torch.Tensor]  # vectors (n, D) -> A v (n, D)
BLOCK = 16  # vectors that are multiplied together
FIRST = 6 * BLOCK  # directions at first; they are doubled while too much is left
NUMBERS = 2**23  # in the directions: 64 MB
CLOSE = 0.03  # root mean square of what is left, relative to the diagonal: about the relative error of a variance
FAR = 0.2  # of an eigenvalue of I + M from 1, at which a direction is needed
ROUNDS = 3  # of random signs, each in the units that the one before found
LEAST, MOST = 1e-9, 1e9  # eigenvalues of I + Q diag(m) Q^T are kept between


class Curvature(NamedTuple):
    """A = C^(1/2) (I + Q diag(m) Q^T) C^(1/2)."""

    diagonal: torch.Tensor  # C (D,)
    directions: torch.Tensor  # Q (D, R)
    stretch: torch.Tensor  # m > -1 (R,)
    left: float  # root mean square over the latents of what is in neither, relative to the diagonal
    products: int  # vectors that A was multiplied with


class _Krylov(NamedTuple):
    vectors: torch.Tensor  # V (n, D), orthonormal rows
    products: torch.Tensor  # V M (n, D), M = C^(-1/2) A C^(-1/2) - I
    last: int  # rows of the last block


def curvature(products: Products, start: torch.Tensor, noise: torch.Generator, *, numbers: int = NUMBERS) -> Curvature:
    """The curvature of `products`. start: a first guess of its diagonal (D,), for units. numbers: in the directions."""
    C, D, used = start, len(start), 0
    for _ in range(ROUNDS):
        signs = _signs(2 * BLOCK, C, noise)
        C = C * (1 + (signs * _scaled(products, C, signs)).mean(0)).abs().clamp(min=1e-4)
        used += len(signs)
    tried = [C, _middle(products, C, noise)]
    spaces = [_grown(products, C, _begun(products, C, noise), FIRST) for C in tried]
    best = min(range(2), key=lambda i: _needed(spaces[i]))
    used += sum(len(space.vectors) for space in spaces) + FIRST
    C, space, most, corrected = tried[best], spaces[best], min(D, max(FIRST, numbers // D)), False
    while True:
        Q, m = _ritz(space)
        signs = _signs(BLOCK, C, noise)
        rest = _scaled(products, C, signs) - ((signs @ Q) * m) @ Q.T
        left, used = rest.square().mean().sqrt().item(), used + BLOCK
        if left < CLOSE or (corrected and len(space.vectors) >= most):
            return Curvature(C, Q, m, left, used)
        before = len(space.vectors)
        if before >= most:
            C, corrected, before = C * (1 + (signs * rest).mean(0)).clamp(min=0.2), True, 0
            space = _begun(products, C, noise)
        space = _grown(products, C, space, min(most, max(2 * before, FIRST)) if before else most)
        used += len(space.vectors) - before


def projected(products: Products, before: Curvature) -> torch.Tensor:
    """Q^T C^(-1/2) A C^(-1/2) Q (R, R) of other products, along the directions of `before`."""
    Q, root = before.directions, before.diagonal.sqrt()
    found = (products(Q.T / root) / root) @ Q
    return (found + found.T) / 2


def turned(before: Curvature, along: torch.Tensor) -> Curvature:
    """The curvature with `along` (R, R), as of `projected`, in the place of what it is along its directions."""
    values, rotation = torch.linalg.eigh(along)
    return before._replace(directions=before.directions @ rotation, stretch=values.clamp(LEAST, MOST) - 1)


def _scaled(products: Products, C: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """M v = C^(-1/2) A C^(-1/2) v - v, (n, D)."""
    root = C.sqrt()
    return products(vectors / root) / root - vectors


def _signs(n: int, like: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    zeros_and_ones = torch.randint(2, (n, len(like)), generator=noise, device=like.device)
    return 2 * zeros_and_ones.to(like.dtype) - 1


def _middle(products: Products, C: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """A constant diagonal: the median eigenvalue of A, by the weights of random vectors in its spectrum."""
    typical = C.median().expand_as(C)
    space = _grown(products, typical, _begun(products, typical, noise), FIRST)
    values, shares = _spectrum(space)
    order = values.argsort()
    at = int((shares[order].cumsum(0) < 0.5).sum().clamp(max=len(values) - 1))
    return typical * (1 + values[order][at]).clamp(min=1e-4)


def _begun(products: Products, C: torch.Tensor, noise: torch.Generator) -> _Krylov:
    V = torch.linalg.qr(_signs(min(BLOCK, len(C)), C, noise).T).Q.T
    return _Krylov(V, _scaled(products, C, V), len(V))


def _grown(products: Products, C: torch.Tensor, space: _Krylov, size: int) -> _Krylov:
    """The space with blocks added until it has `size` vectors, or is closed under A."""
    V, MV, last = space
    vectors, images, n = V.new_empty(max(size, len(V)), V.shape[1]), V.new_empty(max(size, len(V)), V.shape[1]), len(V)
    vectors[:n], images[:n] = V, MV
    while n < size:
        new = images[n - last : n]
        for _ in range(2):  # twice is enough, for rounding
            new = new - (new @ vectors[:n].T) @ vectors[:n]
        norms = torch.linalg.svdvals(new)
        rank = min(int((norms > 1e-8 * max(1.0, norms[0].item())).sum()), size - n)
        if not rank:
            break
        new = torch.linalg.svd(new, full_matrices=False).Vh[:rank]
        new = torch.linalg.qr((new - (new @ vectors[:n].T) @ vectors[:n]).T).Q.T
        vectors[n : n + rank], images[n : n + rank] = new, _scaled(products, C, new)
        n, last = n + rank, rank
    return _Krylov(vectors[:n], images[:n], last)


def _projected(space: _Krylov) -> torch.Tensor:
    found = space.products @ space.vectors.T
    return (found + found.T) / 2


def _spectrum(space: _Krylov) -> tuple[torch.Tensor, torch.Tensor]:
    """(Ritz values (n,) of M, the share of each in the random vectors of the first block)."""
    values, vectors = torch.linalg.eigh(_projected(space))
    shares = vectors[:BLOCK].square().sum(0)
    return values, shares / shares.sum()


def _needed(space: _Krylov) -> float:
    """The share of the latents' directions in which I + M is far from the identity."""
    values, shares = _spectrum(space)
    return float(shares[values.abs() > FAR].sum())


def _ritz(space: _Krylov) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(_projected(space))
    return space.vectors.T @ vectors, (1 + values).clamp(LEAST, MOST) - 1
