"""The chosen pair as a directory that `sw.infer` runs."""

from pathlib import Path

from search.costs import path_cost
from search.decision import Decision
from search.experiment import Run

DIRECTORY = "pair"
"""Folder of the pair beside `result.json`."""


def store_pair(run: Run, decision: Decision, directory: Path) -> None:
    """Write the pair that was chosen, with what its threshold keeps on the calibration split and what each exit costs.

    Args:
        run: the search.
        decision: its choice.
        directory: of `result.json`.
    """
    from sim.cycle_model import predict
    from sw.compiler.programs import compile_pair
    from sw.gated.pair import ExitCost, Guarantee, Pair

    low, high = decision.pair
    cascade, config, arguments = decision.choice.cascade, run.config, run.arguments
    program = compile_pair(low.integer, high.integer, config, cascade.threshold)
    costs = []
    for exits_low in (True, False):
        cost = path_cost(run.config, predict(program, run.memory, exits_low=exits_low).counters)
        costs.append(ExitCost(cost.cycles, cost.delay_ms, cost.energy_mj))
    guarantee = Guarantee(
        split="calibration",
        images=len(cascade.low.correct),
        f_low=cascade.f_low,
        accuracy=cascade.accuracy,
        baseline_accuracy=decision.efforts[-1].accuracy,
        lec=arguments.lec,
        max_loss=arguments.max_loss,
    )
    Pair(
        model=arguments.network.model,
        image_size=arguments.network.image_size,
        classes=arguments.network.classes,
        preset=arguments.preset,
        config=config,
        threshold=cascade.threshold,
        paths=(low.path, high.path),
        guarantee=guarantee,
        costs=(costs[0], costs[1]),
        integer=(low.integer, high.integer),
        states=(low.network.vit.state_dict(), high.network.vit.state_dict()),
    ).save(directory / DIRECTORY)
