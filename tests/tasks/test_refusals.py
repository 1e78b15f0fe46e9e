"""What PyTorch refuses because of a setting names the setting; other errors pass through."""

from __future__ import annotations

import pytest
import torch

from ray_darts.errors import ConfigError
from ray_darts.tasks.refusals import naming_settings


def test_one_value_per_channel_names_the_batch_size() -> None:
    norm = torch.nn.BatchNorm2d(3)
    with pytest.raises(ConfigError, match=r"raise search\.batch_size or data\.image_size"), naming_settings("search"):
        norm(torch.zeros(1, 3, 1, 1))


def test_a_rate_beyond_float32_names_the_rate() -> None:
    with pytest.raises(ConfigError, match=r"lower weights\.learning_rate"), naming_settings("search"):
        torch.zeros(3).add_(torch.ones(3), alpha=1e200)


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), naming_settings("search"):
        raise RuntimeError("shapes")
