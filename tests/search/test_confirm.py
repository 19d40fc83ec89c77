import numpy as np
import pytest

from search.confirm import gated_images


@pytest.mark.parametrize(("share", "low"), [(0.5, None), (0.97, 48), (0.02, 16), (1.0, 64), (0.0, 0)])
def test_both_exits_are_among_the_images_of_the_gated_run(share, low, rng):
    exits_low = rng.random(2000) < share
    chosen = gated_images(exits_low, 64)
    assert len(set(chosen.tolist())) == 64 and (np.diff(chosen) > 0).all()
    taken = int(exits_low[chosen].sum())
    if low is None:  # nothing to mend: simply the first ones
        assert chosen.tolist() == list(range(64))
    else:
        assert taken == low


def test_few_images_of_an_exit_are_all_taken():
    exits_low = np.ones(100, bool)
    exits_low[[70, 90]] = False
    assert gated_images(exits_low, 16).tolist() == [*range(14), 70, 90]
