from __future__ import annotations

from itertools import chain

import pytest
import torch

from stream_i3d.errors import ConfigError
from stream_i3d.training.config import DataConfig
from stream_i3d.training.loading import Division, SampleKey, StepSampler, collate, fixed_parts, make_loader
from tests.training.toy import ToyDataset


def keys(items: int, steps: int, first: int = 0, **division: int) -> list[list[SampleKey]]:
    return list(StepSampler(items, Division(**division), seed=3, first_step=first, steps=steps))


def test_an_epoch_shows_every_item_once_and_each_in_another_order() -> None:
    parts = keys(12, steps=6, batch_size=4)
    first, second = ([*chain(*parts[i : i + 3])] for i in (0, 3))
    assert {key.epoch for key in first} == {0}
    assert sorted(key.index for key in first) == list(range(12))
    assert sorted(key.index for key in second) == list(range(12))
    assert [key.index for key in first] != [key.index for key in second]


def test_items_that_fill_no_batch_wait_and_a_tiny_set_is_repeated() -> None:
    assert len({key.index for part in keys(10, steps=2, batch_size=4) for key in part}) == 8
    (part,) = keys(3, steps=1, batch_size=8)
    assert len(part) == 8
    assert {key.index for key in part} == {0, 1, 2}


def test_a_run_taken_up_at_a_step_sees_what_an_unbroken_one_sees() -> None:
    assert keys(10, steps=9, first=4, batch_size=3) == keys(10, steps=9, batch_size=3)[4:]


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_parts_share_out_the_very_batch_of_one(processes: int, accumulate: int) -> None:
    alone = keys(16, steps=4, batch_size=8)
    shares = [
        keys(16, steps=4, batch_size=8, accumulate=accumulate, processes=processes, rank=rank)
        for rank in range(processes)
    ]
    for step, batch in enumerate(alone):
        parts = [share[step * accumulate + part] for part in range(accumulate) for share in shares]
        assert [*chain(*parts)] == batch


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 8 cannot be shared by 3 processes in 1 parts each; give a mult"):
        keys(16, steps=1, batch_size=8, processes=3)


def test_validation_parts_cover_a_set_once_and_are_equal_for_all_processes() -> None:
    shares = [fixed_parts(7, 2, processes=3, rank=rank) for rank in range(3)]
    assert [[len(part) for part in share] for share in shares] == [[2, 1]] * 3
    flat = [[key.index for part in share for key in part] for share in shares]
    interleaved = [row[place] for place in range(3) for row in flat]
    assert interleaved[:7] == list(range(7))
    assert set(interleaved[7:]) == {6}


def test_batches_have_one_axis_more_than_samples() -> None:
    dataset = ToyDataset(clips=2)
    batch = collate([dataset[SampleKey(0, index)] for index in (0, 1, 4)])
    assert batch["clips"]["rgb"].shape == (3, 2, 8, 32, 32, 3)
    assert batch["clips"]["rgb"].dtype == torch.uint8
    assert batch["label"].tolist() == [0, 1, 0]
    assert batch["index"].tolist() == [0, 1, 4]


@pytest.mark.slow
def test_workers_give_the_same_batches_as_none() -> None:
    dataset, sampler = ToyDataset(6), StepSampler(6, Division(batch_size=3), seed=0, first_step=0, steps=3)
    alone, helped = (
        list(make_loader(dataset, sampler, DataConfig(workers=workers), torch.device("cpu"))) for workers in (0, 2)
    )
    for one, other in zip(alone, helped, strict=True):
        torch.testing.assert_close(one, other)
