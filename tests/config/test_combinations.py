"""Settings that are valid alone but conflict are rejected, with a hint what to change."""

from __future__ import annotations

import re

import pytest

from ray_darts.config import load_config, load_training_config
from ray_darts.errors import ConfigError


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("digits", ["search.accumulate=2", "search.batch_norm=sync"], "'sync' needs search.accumulate 1"),
        ("digits", ["search.accumulate=32", "operation.workers=4"], "exceeds the 16 samples of a worker's shard"),
        ("digits", ["operation.workers=65"], "a worker would have no sample"),
        ("sotu", ["search.accumulate=128"], "needs 2 columns in each micro-batch"),
        ("sotu", ["search.epochs=1000000000"], "epochs = 1000000000: Input should be less than or equal to 100000"),
        ("sotu", ["data.evaluation_batch_size=7", "operation.workers=4"], "fewer than 2 columns"),
        (
            "sotu",
            ["operation.formulation=grouped"],
            "operation.formulation has no effect on the recurrent space",
        ),
        (
            "sotu",
            ["operation.compile=['training']"],
            "operation.compile has no effect on the recurrent space",
        ),
        ("sotu", ["operation.compile_backend=eager"], "operation.compile_backend has no effect on the recurrent space"),
        ("digits", ["operation.compile=['alpha_training']", "search.hessian=exact"], "needs search.hessian"),
        ("digits", ["operation.compile=['training']", "operation.kernel=compiled"], "needs operation.kernel 'torch'"),
        ("digits", ["operation.compile=['training']", "search.batch_norm=sync"], "needs search.batch_norm 'local'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(preset: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(preset, overrides=overrides)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("digits", "network.auxiliary=true", "network.auxiliary follows from training.auxiliary_weight"),
        ("digits", "training.average_after=5", "training.average_after is for text"),
        ("digits", "weights.learning_rate_min=5.0", "learning_rate_min 5.0 exceeds 0.05"),
        ("digits", "training.accumulate=100", "accumulate 100 exceeds batch_size 64"),
        ("digits", "operation.workers=65", "a worker would have no sample"),
        ("digits", "operation.compile=['alpha_training']", "a training has the pass 'training' only"),
        ("digits", "weights.momentum=0.0 weights.nesterov=true", "nesterov needs momentum"),
        ("digits", "training.hold_out=false training.tested=best", "tested 'best' needs hold_out"),
        ("digits", "training.hold_out=false training.restores=1", "restores needs hold_out"),
        ("ptb", "training.hold_out=false training.restores=0", "tested 'best' and average_after needs hold_out"),
        ("digits", "operation.compile=['training'] training.drop_path=0.1", "needs training.drop_path 0"),
        ("digits", "operation.compile=['training'] operation.kernel=compiled", "needs operation.kernel 'torch'"),
        ("digits", "operation.compile=['training'] training.batch_norm=sync", "needs training.batch_norm 'local'"),
        ("nasbench201", "training.drop_path=0.1", "training.drop_path has no effect on a nasbench201 network"),
        ("sotu", "training.epochs=1000000000", "epochs = 1000000000: Input should be less than or equal to 100000"),
        ("sotu", "operation.kernel=compiled", "operation.kernel has no effect on a recurrent network"),
        ("sotu", "operation.compile=['training']", "windows of text have random lengths"),
    ],
)
def test_settings_of_a_training_that_do_not_go_together_are_refused(preset: str, overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_training_config(preset, overrides=overrides.split())


def test_two_wrong_combinations_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("sotu", overrides=["search.accumulate=128", "operation.kernel=compiled"])
    assert "2 columns" in str(caught.value)
    assert "operation.kernel" in str(caught.value)
