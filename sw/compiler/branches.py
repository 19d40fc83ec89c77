"""Emits branches: a function for each kind.

A branch's descriptors carry `flags`: FLAG_ATTENTION where a path mask may drop them.
"""

from collections.abc import Callable

from hw.isa import FLAG_EXP, FLAG_KV, FLAG_NORMALIZED, Opcode, Operation, Post
from hw.program_image import Offset
from sw.compiler.emitter import Emitter, activation_span, kv_span
from sw.compiler.memory_map import Region
from sw.graph.branch import BranchKind
from sw.graph.integer_network import IntegerAttention, IntegerLinear, IntegerMlp


def _attention(emit: Emitter, encoder: int, attention: IntegerAttention, flags: int) -> None:
    """Heads overlap: the next head's keys are computed between a head's scores and its context, its values between
    its queries and its scores, so that only the last context is waited for."""
    layout, network = emit.map, emit.network
    emit.norm(attention.norm, flags, layout.row_tiles, attention.reads, encoder)
    for head in range(network.heads):
        if head == 0:
            _project(emit, encoder, 0, "key", attention.key, Post.KEY, layout.key, flags)
        _project(emit, encoder, head, "query", attention.query, Post.REQUANT, layout.query, flags)
        _project(emit, encoder, head, "value", attention.value, Post.VALUE, layout.value, flags)
        _scores(emit, encoder, attention, flags)
        if emit.config.softmax_pass:
            _softmax(emit, encoder, attention, flags)
        if head + 1 < network.heads:
            _project(emit, encoder, head + 1, "key", attention.key, Post.KEY, layout.key, flags)
        _context(emit, encoder, head, attention, flags)
    name = f"encoder{encoder}.projection"
    emit.add(name, attention.projection, Operation.PROJECTION, layout.context, attention.adds_to, encoder, flags)


def _project(
    emit: Emitter, encoder: int, head: int, name: str, linear: IntegerLinear, post: Post, target: Region, flags: int
) -> None:
    """Queries, keys or values of one head."""
    size = emit.network.head_dim
    part = linear.rows(head * size, (head + 1) * size)
    emit.linear(
        f"encoder{encoder}.head{head}.{name}", part, post, Operation.QKV, emit.map.normalized, target,
        flags=flags | FLAG_NORMALIZED, encoder=encoder,
    )  # fmt: skip


def _scores(emit: Emitter, encoder: int, attention: IntegerAttention, flags: int) -> None:
    layout, tokens = emit.map, emit.network.tokens
    fields = emit.shape(emit.network.head_dim, tokens, layout.query, layout.scores)
    fields |= {"flags": flags | FLAG_KV, "encoder": encoder, "operation": int(Operation.SCORES)}
    fields |= {"post": int(Post.SCORE), "kv_base": layout.key.base}
    fields |= {"multiplier": attention.score_multiplier, "shift": attention.score_shift}
    emit.gemm(fields, reads=(activation_span(layout.query), kv_span(layout.key)), writes=activation_span(layout.scores))


def _exp_table(emit: Emitter, encoder: int, attention: IntegerAttention) -> Offset:
    return emit.table(f"encoder{encoder}.exp", attention.exp_table)


def _softmax(emit: Emitter, encoder: int, attention: IntegerAttention, flags: int) -> None:
    """The scores' exps, in place."""
    layout, tokens = emit.map, emit.network.tokens
    emit.stream.emit(
        Opcode.SOFTMAX,
        {"flags": flags, "encoder": encoder, "operation": int(Operation.SOFTMAX)}
        | {"table": _exp_table(emit, encoder, attention), "base": layout.scores.base, "stride": layout.scores.stride}
        | {"keys": tokens, "row_tiles": layout.row_tiles, "tokens": tokens},
    )


def _context(emit: Emitter, encoder: int, head: int, attention: IntegerAttention, flags: int) -> None:
    layout, size = emit.map, emit.network.head_dim
    table = 0 if emit.config.softmax_pass else _exp_table(emit, encoder, attention)
    word, element = divmod(head * size, emit.config.pe_depth)
    fields = emit.shape(emit.network.tokens, size, layout.scores, layout.context)
    fields |= {"flags": flags | FLAG_KV | FLAG_EXP, "encoder": encoder, "table": table}
    fields |= {"operation": int(Operation.CONTEXT), "post": int(Post.REQUANT), "kv_base": layout.value.base}
    fields |= {"base": layout.context.base + word, "element": element}
    fields |= {"multiplier": attention.context_multiplier, "shift": attention.context_shift}
    emit.gemm(fields, reads=(activation_span(layout.scores), kv_span(layout.value)), writes=activation_span(layout.context))


def _mlp(emit: Emitter, encoder: int, mlp: IntegerMlp, flags: int) -> None:
    layout, name = emit.map, f"encoder{encoder}"
    emit.norm(mlp.norm, flags, layout.row_tiles, mlp.reads, encoder)
    table = emit.table(f"{name}.activation", mlp.activation_table)
    emit.linear(
        f"{name}.fc1", mlp.fc1, Post.ACTIVATION, Operation.MLP, layout.normalized, layout.hidden,
        flags=flags | FLAG_NORMALIZED, encoder=encoder, table=table,
    )  # fmt: skip
    emit.add(f"{name}.fc2", mlp.fc2, Operation.MLP, layout.hidden, mlp.adds_to, encoder, flags)


EMIT: dict[BranchKind, Callable[..., None]] = {BranchKind.ATTENTION: _attention, BranchKind.MLP: _mlp}
"""Emits a branch of each kind: emitter, encoder, integer branch, flags."""
