"""Pre-training in two processes: the same network in both, and the one that a single process would have trained."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.packed_images import write_packed_images

PROGRAM = Path(__file__).with_name("pretraining.py")
COUNT = 200


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pixels = (load_digits().images[:COUNT] * 15.9).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    folder = tmp_path_factory.mktemp("digits") / "images"
    return write_packed_images(folder, images, [""] * COUNT, ["train"] * COUNT, shards=3)


@pytest.fixture
def pretrain(horovod, digits, tmp_path):
    """`pretrain(processes, **options)`: what each process told, by rank."""

    def start(processes, folder=None, **options):
        place = tmp_path / (folder or f"{len(list(tmp_path.iterdir()))}")
        arguments = [processes, digits, json.dumps(options), place]
        if processes == 1:
            command = [sys.executable, PROGRAM, *map(str, arguments)]
            output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stderr
        else:
            output = horovod.run(PROGRAM, *arguments, processes=processes)
        told = [json.loads(line) for line in re.findall(r"told (\{.*\})", output)]
        assert len(told) == processes, output
        return sorted(told, key=lambda each: each["rank"])

    return start


def whole(told):
    """The loss of each step, the mean over processes."""
    return np.mean([each["losses"] for each in told], axis=0)


def test_both_end_with_the_same_weights_statistics_and_queue(pretrain):
    first, second = both = pretrain(2, batch_size=16)
    epochs = np.array([[each["seen"][step] for each in both] for step in range(12)]).reshape(2, -1)
    assert [len(set(epoch)) for epoch in epochs] == [COUNT // 32 * 32] * 2, "no image comes twice in an epoch"
    assert not np.array_equal(*epochs), "each epoch has an order of its own"
    for name in ("weights", "statistics", "state", "epochs"):
        assert first[name] == second[name], name
    assert first["losses"] != second["losses"]
    assert np.allclose(first["epochs"], whole([first, second]).reshape(2, -1).mean(axis=1))
    assert first["reported"] == first["epochs"], "the leader reports"
    assert second["reported"] == []


@pytest.mark.parametrize("symmetric", [False, True])
def test_two_processes_follow_the_loss_curve_of_one_with_as_large_a_batch(pretrain, symmetric):
    # Batch norm takes its statistics over 8 images at a time in both: 2 groups in each of two processes, 4 in one.
    task = {"batch_norm": "split", "symmetric": symmetric}
    two = pretrain(2, batch_size=16, learning_rate=0.03, task={**task, "batch_norm_groups": 2})
    one = pretrain(1, batch_size=32, learning_rate=0.06, task={**task, "batch_norm_groups": 4})
    assert len(one[0]["losses"]) == 2 * (COUNT // 32)
    assert [a + b for a, b in zip(two[0]["seen"], two[1]["seen"], strict=True)] == one[0]["seen"]
    assert whole(two) == pytest.approx(one[0]["losses"], abs=2e-3)
    assert two[0]["norm"] == pytest.approx(one[0]["norm"], rel=1e-3)


def test_gradients_added_up_over_passes_are_those_of_as_many_batches(pretrain):
    options = {"backward_passes_per_step": 2, "epochs": 1}
    two = pretrain(2, batch_size=8, learning_rate=0.03, task={"batch_norm": "split", "batch_norm_groups": 2}, **options)
    one = pretrain(
        1, batch_size=16, learning_rate=0.06, task={"batch_norm": "split", "batch_norm_groups": 4}, **options
    )
    assert len(one[0]["losses"]) == len(two[0]["losses"]) == COUNT // 32
    assert [a + b for a, b in zip(two[0]["seen"], two[1]["seen"], strict=True)] != one[0]["seen"], "passes alternate"
    assert whole(two) == pytest.approx(one[0]["losses"], abs=2e-3)
    assert two[0]["norm"] == pytest.approx(one[0]["norm"], rel=1e-3)


def test_gradients_that_travel_as_float16_lead_to_nearly_the_same(pretrain):
    plain, compressed = (pretrain(2, batch_size=16, epochs=1, gradient_compression=kind) for kind in ("none", "fp16"))
    assert compressed[0]["weights"] == compressed[1]["weights"] != plain[0]["weights"]
    assert whole(compressed) == pytest.approx(whole(plain), abs=0.02)


def test_weights_that_differ_between_processes_are_found(pretrain):
    two = pretrain(2, batch_size=16, seed=777)
    messages = {each["refused"] for each in two}
    assert len(messages) == 1
    assert re.search(r"in epoch 1, head\.layers\.\d\.\w+ of rank 1 has norm .*, that of rank 0", messages.pop())


def test_a_diverging_process_stops_all_with_one_message_that_names_it(pretrain):
    two = pretrain(2, batch_size=16, seed=666, commit_every=1)
    messages = {each["refused"] for each in two}
    assert len(messages) == 1
    assert re.search(r"the loss became nan on rank 1 in epoch 1, step 4 \(", messages.pop())
    assert not any(each["saved"] for each in two)


def test_a_killed_run_goes_on_from_the_checkpoint_of_the_leader(pretrain):
    half = pretrain(2, "run", batch_size=16, epochs=1)
    assert half[0]["saved"]
    further = pretrain(2, "run", batch_size=16, epochs=2)
    assert len(further[0]["losses"]) == len(half[0]["losses"])
    assert further[0]["reported"][0] == half[0]["epochs"][0]
    assert further[0]["weights"] == further[1]["weights"]


def test_sinkhorn_and_queue_of_swav_go_over_both_processes(pretrain):
    """Without batch norm two processes make of a batch, prototypes frozen and free, with a queue, what one does."""
    # Each half dealt out by itself would be off by some thousandths; a high rate would blow up what rounding leaves.
    two = pretrain(2, method="swav", batch_norm=False, batch_size=16, learning_rate=0.002)
    one = pretrain(1, method="swav", batch_norm=False, batch_size=32, learning_rate=0.004)
    assert two[0]["state"] == two[1]["state"]
    assert len(one[0]["losses"]) == 2 * (COUNT // 32)
    assert whole(two) == pytest.approx(one[0]["losses"], abs=3e-4)
    assert two[0]["losses"] != two[1]["losses"]
    assert two[0]["norm"] == pytest.approx(one[0]["norm"], rel=1e-5)


def test_two_processes_with_batch_norm_end_with_the_same_swav(pretrain):
    two = pretrain(2, method="swav", batch_size=16)
    for name in ("weights", "statistics", "state", "epochs"):
        assert two[0][name] == two[1][name], name


@pytest.mark.parametrize("method", ["simclr", "barlow_twins"])
def test_a_loss_over_the_whole_batch_is_the_same_in_both_and_has_the_gradient_of_one(pretrain, method):
    options = {"method": method, "batch_norm": False, "epochs": 1}
    two = pretrain(2, batch_size=16, learning_rate=0.002, **options)
    one = pretrain(1, batch_size=32, learning_rate=0.004, **options)
    assert two[0]["losses"] == pytest.approx(two[1]["losses"], rel=1e-6)
    assert whole(two) == pytest.approx(one[0]["losses"], rel=1e-4)
    assert two[0]["norm"] == pytest.approx(one[0]["norm"], rel=1e-5)
    assert one[0]["losses"][-1] != pytest.approx(one[0]["losses"][0], rel=1e-3)
