"""Branches: each reads a residual stream and adds to one. What is said here holds for a network's every form: floating-point
numbers, scales, integers and descriptors all have an encoder as its branches, in the same order."""

from enum import StrEnum

TOKENS = "tokens"
"""The residual stream of a plain ViT, one row per token."""


class BranchKind(StrEnum):
    """What a branch computes; in names of tensors also the stream behind its addition."""

    ATTENTION = "attention"
    MLP = "mlp"
