"""The golden device: a Program interpreted, in batches of images side by side."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from hw.config import AcceleratorConfig
from hw.device import RunResult, check_images, check_program
from hw.interpreter import Interpreter, Observer
from hw.program import Program


class GoldenDevice:
    """`hw.device.Device` that answers with the components' models; it has no time, so no cycles, counters or deadline.

    Args:
        config: machine whose Programs it runs; any Program on its own machine when None.
        chunk: images per batch; bounds the memory used.
        threads: batches run side by side.
        observer: sees what the descriptors compute; called for every batch, by its thread.
    """

    def __init__(
        self, config: AcceleratorConfig | None = None, *, chunk: int = 64, threads: int = 2, observer: Observer | None = None
    ):
        self.config = config
        self.chunk = chunk
        self.threads = threads
        self.observer = observer
        self._interpreter: Interpreter | None = None

    def run(
        self,
        program: Program,
        images: np.ndarray,
        *,
        path_masks: tuple[int, int] | None = None,
        threshold: int | None = None,
        deadline: int | None = None,
    ) -> RunResult:
        """Run a batch; see `hw.device.Device`. The same Program again finds its weights unpacked.

        Raises:
            InputError: the Program is for another configuration, or the images do not fit it.
        """
        check_program(program, self.config or program.config)
        started = time.perf_counter()
        interpreter = self._interpreter
        if interpreter is None or interpreter.program is not program:
            interpreter = self._interpreter = Interpreter(program, self.observer)
        masks = program.path_masks if path_masks is None else path_masks
        limit = program.threshold if threshold is None else threshold
        flat = check_images(program, images)
        chunks = [flat[start : start + self.chunk] for start in range(0, len(flat), self.chunk)]
        # The batches are the parallelism: threads of their own in small matrix products cost far more than they give.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(self.threads) as pool:
            parts = list(pool.map(lambda chunk: interpreter.run(chunk, masks, limit), chunks))
        logits, exits, entropy, gate_entropy = (np.concatenate(column) for column in zip(*parts, strict=True))
        return RunResult(logits, exits, entropy, gate_entropy, wall_s=time.perf_counter() - started)
