"""The published reference's own numbers for one supernet (AutoDL-Projects, float64), to 1e-12."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_darts.data.batch import Batch, Draws
from ray_darts.methods.darts import Darts
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.genotypes import write_text
from ray_darts.spaces.nasbench201.space import NasBench201Space
from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.nasbench201.oracle import EDGES, part_of

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT.parent / "shared" / "golden" / "nb201_darts.npz"
TOLERANCE = 1e-12
PLAIN = {
    "stem.0.weight": "stem.weight",
    "stem.1.weight": "stem.batch_norm.weight",
    "stem.1.bias": "stem.batch_norm.bias",
    "lastact.0.weight": "batch_norm.weight",
    "lastact.0.bias": "batch_norm.bias",
    "classifier.weight": "classifier.weight",
    "classifier.bias": "classifier.bias",
}
EDGE = re.compile(r"cells\.(\d)\.edges\.(\d)<-(\d)\.(\d)\.op\.1\.weight")
BLOCK = re.compile(r"cells\.(\d)\.(conv_a\.op\.1|conv_a\.op\.2|conv_b\.op\.1|conv_b\.op\.2|downsample\.1)\.(\w+)")
PLACES = {
    "conv_a.op.1": "first.",
    "conv_a.op.2": "first.batch_norm.",
    "conv_b.op.1": "second.",
    "conv_b.op.2": "second.batch_norm.",
    "downsample.1": "",
}


@pytest.fixture(name="vectors", scope="module")
def _vectors() -> dict[str, NDArray[np.generic]]:
    if not VECTORS.exists():
        pytest.skip(f"the reference's vectors are not beside this checkout ({VECTORS.name})")
    with np.load(VECTORS, allow_pickle=False) as file:
        return {name: file[name] for name in file}


def place_of(name: str, channels: int) -> tuple[str, slice] | None:
    """Where the supernet keeps the reference's parameter `name`; None for biases that batch norm cancels."""
    edge, block = EDGE.fullmatch(name), BLOCK.fullmatch(name)
    if edge is not None:
        cell, node, source, column = map(int, edge.groups())
        operation = ("", "", "nor_conv_1x1", "nor_conv_3x3")[column]
        part = part_of(EDGES.index((source, node)), channels * 2 ** (cell // 2))
        return f"skeleton.cells.{cell // 2}.convolutions.{operation}.weight", part
    if block is not None:
        number, where, kind = block.groups()
        kind = "shortcut" if where == "downsample.1" else kind
        return f"skeleton.blocks.{int(number) // 2}.{PLACES[where]}{kind}", slice(None)
    if name in PLAIN:
        return f"skeleton.{PLAIN[name]}", slice(None)
    assert re.fullmatch(r"cells\.\d\.edges\.\d<-\d\.\d\.op\.1\.bias", name), name
    return None


def checksum(gradient: Tensor) -> Tensor:
    """[sum, sum of absolutes, norm, product with cos(0.1 + 0.7 j)]."""
    flat = gradient.reshape(-1)
    wave = torch.cos(0.1 + 0.7 * torch.arange(len(flat), dtype=torch.float64))
    return torch.stack([flat.sum(), flat.abs().sum(), flat.norm(), flat @ wave])


def loaded(vectors: dict[str, NDArray[Any]]) -> tuple[NasBench201Supernet, dict[str, tuple[str, slice]]]:
    """A supernet with the reference's weights, and {reference's name: place}."""
    channels = int(vectors["C"])
    space = NasBench201Space(channels=channels, cells_per_stage=int(vectors["N"]))
    assert tuple(vectors["ops"]) == space.operations
    supernet = NasBench201Supernet(space, DataFacts(10, 3, 16)).double()
    named, places, filled = dict(supernet.named_parameters()), {}, 0
    with torch.no_grad():
        for index, name in enumerate(map(str, vectors["w_names"])):
            place = place_of(name, channels)
            if place is not None:
                values = torch.from_numpy(vectors[f"w{index:04d}"])
                named[place[0]][place[1]].copy_(values)
                places[name] = place
                filled += values.numel()
    assert filled == sum(weight.numel() for weight in named.values()), "every weight is the reference's"
    return supernet, places


def test_scores_loss_and_all_gradients_are_the_references(vectors: dict[str, NDArray[Any]]) -> None:
    supernet, places = loaded(vectors)
    alphas = torch.from_numpy(vectors["alphas"]).requires_grad_()
    images, labels = torch.from_numpy(vectors["x"]), torch.from_numpy(vectors["y"])
    mixing = {"cell": alphas.softmax(-1)}
    np.testing.assert_allclose(mixing["cell"].detach().numpy(), vectors["mix"], rtol=0, atol=TOLERANCE)
    scores = supernet.logits(images, mixing, batch_statistics=True, update=False)
    np.testing.assert_allclose(scores.detach().numpy(), vectors["logits"], rtol=0, atol=TOLERANCE)
    loss = supernet.loss(Batch(images, labels, Draws(0, "train", 0, 0, 4, 4)), None, Pass.WEIGHT, mixing).loss
    np.testing.assert_allclose(np.array(loss.item()), vectors["loss"], rtol=0, atol=TOLERANCE)
    loss.backward()  # type: ignore[no-untyped-call]
    assert alphas.grad is not None
    np.testing.assert_allclose(alphas.grad.numpy(), vectors["g_alphas"], rtol=0, atol=TOLERANCE)
    named = dict(supernet.named_parameters())
    for index, name in enumerate(map(str, vectors["w_names"])):
        if name in places:
            where, part = places[name]
            gradient = named[where].grad
            assert gradient is not None
            wanted = vectors["gw_stats"][index]
            bound = TOLERANCE * max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(checksum(gradient[part]).numpy(), wanted, rtol=0, atol=bound, err_msg=name)


def test_the_alphas_decode_to_the_references_architecture_string(vectors: dict[str, NDArray[Any]]) -> None:
    layout = NasBench201Space().layout()
    decoded = Darts().decode(layout, vectors["alphas"].reshape(-1).tolist())
    assert write_text(decoded.genotype) == str(vectors["genotype"])
