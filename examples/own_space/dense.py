"""A search space of our own: a dense network whose hidden layers choose their activations and their sources."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ray_darts import CellLayout, CellWords, ClassifyingSupernet, Ranking, Space, SpaceLayout, register

ACTIVATIONS = {"skip": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "sine": torch.sin}


class DenseSupernet(ClassifyingSupernet):
    """Each node is the sum over its edges of mixed activations of one linear layer per edge."""

    def __init__(self, space: "DenseSpace", inputs: int, classes: int) -> None:
        super().__init__()
        self.layout = space.layout()
        self.edges = self.layout.cells[0].edges
        self.first = nn.Linear(inputs, space.hidden)
        self.layers = nn.ModuleList(nn.Linear(space.hidden, space.hidden) for _ in self.edges)
        self.last = nn.Linear(space.hidden, classes)

    def logits(self, images_NCHW: Tensor, mixing: dict[str, Tensor], **_: bool) -> Tensor:
        """Class scores [N, classes]; there is no batch norm, so its policy does not matter."""
        states = [self.first(images_NCHW.flatten(1))]
        for (source, target), layer, weights in zip(self.edges, self.layers, mixing["dense"], strict=True):
            hidden = layer(states[source])
            mixed = sum(w * f(hidden) for w, f in zip(weights[1:], ACTIVATIONS.values(), strict=True))
            if target == len(states):
                states.append(mixed)
            else:
                states[target] = states[target] + mixed
        return self.last(states[-1])


class DenseSpace(Space):
    """What ray_darts asks of a space."""

    data_forms: ClassVar = ("images",)
    ranking: ClassVar = Ranking("accuracy", "max")
    words: ClassVar = CellWords(("pixels",), "last of", "h")
    kind: Literal["dense"] = "dense"
    nodes: int = 2
    hidden: int = 32

    def layout(self) -> SpaceLayout:
        """One cell with one input; each node keeps its strongest edge."""
        cell = CellLayout("dense", 1, self.nodes, ("none", *ACTIVATIONS), 1, outputs=(self.nodes,))
        return SpaceLayout("dense", (cell,), "skip", frozenset({"skip"}))

    def supernet(self, facts, runtime, device) -> DenseSupernet:
        """For flattened images."""
        return DenseSupernet(self, facts.channels * facts.image_size**2, facts.num_classes)


register(DenseSpace)
