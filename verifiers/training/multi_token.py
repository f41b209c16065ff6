"""What a verifier in training learns beside the labels: what its policy will write next.

Whether a step leaves a way to the answer may only show in the steps that follow, and a label tells little of them: one
bit for all that was written. The tokens of the solutions and rollouts themselves tell more, the wrong ones no less than
the right ones. So at the token that closes a step, the verifier also learns to predict the tokens that its policy wrote
after it, by one linear map for each (multi-token prediction: Gloeckle et al. 2024, arXiv 2404.19737). The maps are
dropped after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class Foresight(torch.nn.Module):
    """Heads for the next tokens, over the embeddings of the model.

    Args:
        width: of the hidden states and the embeddings.
        reach: how many tokens ahead.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.maps = torch.nn.Linear(width, reach * width, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()[:width] = torch.eye(width)  # a causal model knows the first one

    def loss(
        self,
        hidden: Tensor,
        ids: Tensor,
        table: Tensor,
        places: Sequence[tuple[int, int, int]],
        weights: Sequence[float],
    ) -> Tensor:
        """Mean cross-entropy of the tokens after some places.

        Args:
            hidden: (rows, length, width), normalised.
            ids: (rows, length).
            table: (vocabulary, width), the embeddings.
            places: row, position, and length of the row without its padding.
            weights: of the places.
        """
        rows, columns, lengths = torch.tensor(places, device=ids.device).T
        ahead = columns[:, None] + torch.arange(1, self.reach + 1, device=ids.device)
        known = ahead < lengths[:, None]
        targets = ids[rows[:, None], ahead.clamp(max=ids.shape[1] - 1)]
        logits = self.maps(hidden[rows, columns]).unflatten(1, (self.reach, -1)) @ table.T
        losses = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)
        scale = known * torch.tensor(weights, device=ids.device)[:, None]
        loss: Tensor = (losses * scale).sum() / scale.sum()
        return loss
