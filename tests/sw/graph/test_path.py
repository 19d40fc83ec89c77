"""Paths: construction, rejections, and what follows from the kinds."""

import pytest

from hw.errors import InputError
from sw.graph.branch import BranchKind
from sw.graph.path import Kind, Path, parse_encoders, path_or_full


def test_one_value_in_every_way_of_saying_it():
    path = Path((Kind.FULL, Kind.MLP, Kind.FULL, Kind.MLP))
    assert path == Path.parse("full, mlp,full,mlp", 4, "--path")
    assert path == Path.of_branches([["attention", "mlp"], ["mlp"], [BranchKind.MLP, BranchKind.ATTENTION], ["mlp"]])
    assert path == Path.keeping([2, 0], 4) == Path.skipping([1, 3], 4) == Path.from_mask(0b0101, 4)
    assert len({path, Path.keeping([0, 2], 4)}) == 1
    assert (path.depth, path.effort, path.kept, path.skipped, path.mask) == (4, 2, (0, 2), (1, 3), 0b0101)
    assert [path.keeps(index) for index in range(4)] == [True, False, True, False]
    assert str(path) == "0,2" and str(Path.keeping([], 4)) == "none"
    assert Path.full(4) == Path.skipping([], 4) == path_or_full(None, 4) and path_or_full(path, 4) is path


def test_paths_above_and_below():
    path = Path.keeping([0, 2], 4)
    assert path.at_most() == Path.full(4) and path.within(path) and path.within(path.at_most())
    assert path.lowered([2, 3]) == Path.keeping([2], 4) and path.lowered([0, 2]) == path
    assert path.lowered([2]).within(path) and not path.within(Path.keeping([2, 3], 4))


@pytest.mark.parametrize("indices", [[2], [-1], [0.5], [True], ["0"]])
def test_encoders_that_do_not_exist(indices):
    for make in (Path.keeping, Path.skipping):
        with pytest.raises(InputError, match=f"Encoder index must be 0 to 1, not {indices[0]}"):
            make(indices, 2)


@pytest.mark.parametrize("mask", [-1, 4])
def test_masks_that_no_path_has(mask):
    with pytest.raises(InputError, match="Path mask must be 0 to 0x3 for 2 encoders"):
        Path.from_mask(mask, 2)


def test_a_mask_has_32_bits():
    assert Path.full(32).mask == 0xFFFFFFFF
    with pytest.raises(InputError, match="at most 32 encoders, not 33"):
        _ = Path.full(33).mask


def test_a_path_of_another_depth_is_refused():
    with pytest.raises(InputError, match="Path must be of 3 encoders, not 4"):
        path_or_full(Path.full(4), 3)


@pytest.mark.parametrize("text", ["full,mlp", "full,mlp,full,mlp", "full,mlp,half", "full,,mlp", "", "FULL,mlp,mlp"])
def test_kinds_that_no_path_has(text):
    with pytest.raises(InputError, match=f"--path takes 3 kinds of full, mlp.*, not '{text}'"):
        Path.parse(text, 3, "--path")


def test_branches_of_no_kind():
    with pytest.raises(InputError, match="Encoder 1 must run the branches of a kind, not attention"):
        Path.of_branches([["mlp"], ["attention"]])


def test_text_of_an_option():
    assert parse_encoders("2, 0,,1", 3, "--skip") == (2, 0, 1)
    assert parse_encoders(None, 3, "--skip") == parse_encoders("", 3, "--skip") == ()
    for text, entry in (("3", "3"), ("0,x", "x"), ("-1", "-1")):
        with pytest.raises(InputError, match=f"--skip takes encoder indices from 0 to 2, not '{entry}'"):
            parse_encoders(text, 3, "--skip")
